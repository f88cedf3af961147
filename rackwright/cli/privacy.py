"""The commands of differential privacy: the ledger of a data set, and the signed receipt of a model."""

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rackwright import locations, process_tree, terminal
from rackwright.cli import activity
from rackwright.cli.arguments import AsJson
from rackwright.errors import DeclarationError, Diagnostic, StepFailed, quantity
from rackwright.foreign import parse_object

if TYPE_CHECKING:
    from workloads.training.privacy.report import LedgerData, Receipt

app = typer.Typer(no_args_is_help=True, help="Print what runs have used of the privacy of their data, and sign it.")
NAMESPACE = "rackwright-privacy"
"""Namespace of the signature, so that it is valid for no other purpose. Source: ssh-keygen(1), -Y sign."""
PROGRAM = "workloads.training.privacy"


@app.command()
def ledger(
    directory: Annotated[Path, typer.Argument(metavar="LEDGER", help="Directory of the ledger.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Name of the data set.")],
    as_json: AsJson = False,
) -> None:
    """Print the privacy loss that all runs on a data set have caused together, and its total. Read-only.

    Exit status: 0 printed, 2 there is no such ledger, or it is damaged.
    """
    found = cast("LedgerData", _ask("ledger", str(directory), data))
    if as_json:
        terminal.show_json(found)
        return
    budget = f"epsilon {found['used']:.3g} of {found['epsilon']:g} used at delta {found['delta']:g}"
    terminal.show(f"{data}: {budget} for each {found['unit']}, {quantity(found['rows'], 'row')}")
    for run in found["runs"]:
        for each in run["mechanisms"]:
            steps = f"{each['steps']} steps, noise {each['noise']:.3g}, rate {each['rate']:.3g}"
            terminal.show(f"  {run['name']} ({run['run'][:8]}): epsilon {run['epsilon']:.3g}, {steps}")


@app.command()
def receipt(
    directory: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a finished run with privacy.")],
    key: Annotated[Path, typer.Option(metavar="KEY", help="Private SSH key that signs the receipt.")],
    to: Annotated[Path, typer.Option(metavar="FILE", help="File for the receipt; the signature is FILE.sig.")],
    as_json: AsJson = False,
) -> None:
    """Write the signed receipt of a model: its promise, its mechanisms, its data set, its masking and its code.

    ssh-keygen alone verifies it, by the command that is printed.
    Exit status: 0 written, 2 the run has no receipt, 4 ssh-keygen did not sign.
    """
    found = cast("Receipt", _ask("receipt", str(directory)))
    content = json.dumps(found, indent=2, sort_keys=True) + "\n"
    signature = to.with_name(f"{to.name}.sig")
    signed = _sign(content, key)
    _write_new(to, content)
    try:
        _write_new(signature, signed)
    except BaseException:
        to.unlink()
        raise
    if as_json:
        terminal.show_json(found)
        return
    promise = f"epsilon {found['epsilon']:.3g}, delta {found['promised']['delta']:g} for each {found['unit']}"
    terminal.show(f"{to}: {found['name']}, step {found['step']}, {promise} of {found['data']}")
    verify = f"ssh-keygen -Y verify -n {NAMESPACE} -I SIGNER -f ALLOWED_SIGNERS -s {shlex.quote(str(signature))}"
    terminal.show(f"verify it: {verify} < {shlex.quote(str(to))}")


def _ask(*arguments: str) -> dict[str, Any]:
    """Return the JSON that the program of the workloads prints.

    Raises:
        DeclarationError: It refuses the arguments.
    """
    from rackwright.toolchain import workloads

    with activity.show_work() as progress:
        python = workloads.ensure(progress).python
    environment = {**os.environ, "PYTHONPATH": str(locations.repository())}
    done = process_tree.run((str(python), "-P", "-m", PROGRAM, *arguments), env=environment)
    if done.returncode:
        problem = done.stderr.strip().removeprefix("error: ").splitlines() or [f"status {done.returncode}"]
        raise DeclarationError(Diagnostic(f"privacy {arguments[0]}", problem[0]))
    return parse_object(done.stdout)


def _write_new(path: Path, content: str) -> None:
    """Write *content* to a file that is not there, also not as a link to nothing.

    Raises:
        DeclarationError: It is there, or it cannot be written.
    """
    try:
        with path.open("x") as file:  # O_EXCL follows no link
            file.write(content)
    except FileExistsError:
        raise DeclarationError(Diagnostic("--to", f"{path} is there", "a new file", "Name another file")) from None
    except OSError as error:
        raise DeclarationError(Diagnostic("--to", f"{path} cannot be written: {error.strerror}")) from error


def _sign(content: str, key: Path) -> str:
    """Return the signature of *content*."""
    argv = ("ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(key))
    done = subprocess.run(argv, input=content, capture_output=True, text=True, errors="replace")
    if done.returncode:
        problem = f"ssh-keygen did not sign: {done.stderr.strip()[:200]}"
        raise StepFailed(Diagnostic("--key", problem, help="Name a private SSH key that this account can read"))
    return done.stdout

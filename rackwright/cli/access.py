"""Commands about who gets in: a person's second factor, and the automation's certificate."""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import OPERATE, AsJson, StackName
from rackwright.errors import ChangeRefused, Diagnostic, SetupError

if TYPE_CHECKING:
    from rackwright.access.enrolment import PendingEnrolment
    from rackwright.cli.json_types import IssuedCertificate

app = typer.Typer()
"""The commands of this module; they stand among those of the stack."""


@app.command(rich_help_panel=OPERATE)
def enrol(
    stack: StackName,
    user: Annotated[str, typer.Argument(metavar="USER", help="One of the people of the role access.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make a new secret; the old one is void.")] = False,
) -> None:
    """Give a person the second factor: shows it once, and writes it to the hosts after a code of it was typed."""
    from rackwright.access import enrolment
    from rackwright.cli import recording

    for stream, name in ((sys.stdout, "standard output"), (sys.stdin, "standard input")):
        if not stream.isatty():
            note = "the secret is shown once, is written to no file, and is confirmed by a code"
            help = "Run the command again in a terminal that the person can see"
            raise SetupError(Diagnostic("enrol", f"{name} is not a terminal", "a terminal", help, note))
    loaded = project.stack(stack)
    project.require_twin(loaded)
    with recording.record("enrol", loaded, arguments={"user": user}) as operation:
        pending = enrolment.prepare(loaded, user, replace)
        for host, error in pending.failures.items():
            project.notify(f"{host} does not get the secret: {error}")
        if pending.is_new:
            _show(pending)
            _confirm(pending)
        operation.begin([recording.change(user, f"write {'a new' if replace else 'the'} second factor")])
        enrolled = enrolment.activate(loaded, pending, project.notify)
        for host in (*enrolled.hosts, *enrolled.failures):
            operation.complete(host, user, "failed" if host in enrolled.failures else "done")
        recording.finish(operation, enrolment.exit_status(enrolled))
    if enrolled.hosts:
        result = "can log in with its codes on" if pending.is_new else "keeps the secret, which now is also on"
        terminal.show(f"{user} {result} {', '.join(enrolled.hosts)}")
        place = f"roles.access.people of {user}"
        terminal.show(f'Write `factor: "{enrolled.digest}"` at {place}, so that audits find another key')
    for host, error in enrolled.failures.items():
        again = " with --replace" if replace else ""
        project.notify(f"{host} did not get the secret: {error} Then run the command again{again}.")
    raise typer.Exit(enrolment.exit_status(enrolled))


def _show(pending: "PendingEnrolment") -> None:
    import segno

    secret = pending.secret
    segno.make(secret.uri(pending.person, pending.issuer), micro=False).terminal(compact=True)
    terminal.show(f"Scan it as {pending.issuer}:{pending.person}, or type {secret.key}")
    terminal.show(f"Emergency codes, each good once: {' '.join(secret.emergency)}")
    terminal.show("Neither can be shown again. Clear this terminal after you have stored both.")


def _confirm(pending: "PendingEnrolment") -> None:
    """Return once the person has typed a code of the secret, which proves that their authenticator has it.

    Raises:
        ChangeRefused: no code was typed.
    """
    hosts = ", ".join(pending.hosts)
    terminal.show(f"No host has it yet. The code that the authenticator shows now makes it valid on {hosts}.")
    while answer := terminal.ask("Code of six digits, or nothing to stop"):
        now = time.time()
        if pending.secret.accepts(answer, now):
            return
        clock = datetime.fromtimestamp(now, UTC).strftime("%H:%M:%S UTC")
        terminal.notify(f"That is no code of this secret at {clock}: compare the clocks, and type the next code")
    note = "no host was changed; delete the entry in the authenticator"
    raise ChangeRefused(Diagnostic("enrol", "no code was typed", help="Run the command again", note=note))


@app.command(rich_help_panel=OPERATE)
def cert(
    stack: StackName,
    ca: Annotated[
        str,
        typer.Option(
            envvar="RACKWRIGHT_CA",
            help="The authority: path of its private key, `agent`, or `pkcs11:LIBRARY`.",
            show_default=False,
        ),
    ],
    minutes: Annotated[int, typer.Option(min=1, max=480, help="For how long it lets in.")] = 15,
    principal: Annotated[list[str] | None, typer.Option(help="A declared principal; all of them without it.")] = None,
    key: Annotated[Path | None, typer.Option(help="The automation's key; without it that of the login.")] = None,
    source_address: Annotated[
        list[str] | None, typer.Option(help="Only address or network from which the certificate works.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Issue a short-lived certificate for the automation's key."""
    from rackwright.access import certificates
    from rackwright.cli import recording

    loaded = project.stack(stack)
    names = {"principals": " ".join(principal or ()), "minutes": str(minutes)}
    with recording.record("cert", loaded, arguments=names, planned=[]) as operation:
        issued = certificates.issue(loaded, key, ca, principal or (), minutes, source_address or ())
        operation.complete("", f"certificate {issued.serial} for {', '.join(issued.principals)}", "done")
    if as_json:
        data: IssuedCertificate = {
            "path": str(issued.path),
            "serial": issued.serial,
            "principals": issued.principals,
            "valid_until": issued.until.astimezone(UTC).isoformat(timespec="seconds"),
        }
        terminal.show_json(data)
        return
    terminal.show(f"{issued.path}: for {', '.join(issued.principals)}, serial {issued.serial}")
    terminal.show(f"until {issued.until:%Y-%m-%d %H:%M:%S} UTC")

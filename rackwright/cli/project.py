"""The project of the command line: its directory, stacks, secrets and files."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rackwright import locations, terminal
from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable, SetupError, command
from rackwright.files import write_atomic

if TYPE_CHECKING:
    from rackwright.hosts.pool import Hosts
    from rackwright.stack import Stack

NEW_SALT = (
    "this file is new, and keys the digests of secrets from now on",
    "one such file for each fleet, the same on every computer that runs rackwright for it",
    "Copy the file here from the computer that has changed the hosts before; on the first computer keep this one",
)
NEW_SALT_NOTE = "with another file, files with secrets differ in each audit, and an auditor's login is refused"
TRACKING_URL = "MLFLOW_TRACKING_URI"
"""The environment variable of MLflow's own client."""


def directory() -> Path:
    """Return the directory of the nearest Pulumi.yaml, in the current directory or above."""
    here = Path.cwd()
    if found := locations.find_project(here):
        return found
    problem, expected = "no Pulumi.yaml here or in a directory above", "a directory inside a project of rackwright"
    help = "Change into the project, or create one with `rackwright init DIR`"
    raise SetupError(Diagnostic(str(here), problem, expected, help))


def workloads_python(name: str, python: Path) -> Path:
    """Return a launcher of *python* with which it can import the workloads; in a checkout, which has them, *python*."""
    from rackwright import toolchain

    root = locations.find_project(Path.cwd())
    if root is not None and root.resolve() == locations.repository():
        return python
    return toolchain.write_python(root or toolchain.launchers_of_installation(), name, python)


def stack(name: str, whole: bool = False) -> "Stack":
    """Return the stack *name*, or of a twin the *whole* one. A new salt of a real rack is named.

    In a copy of a project it is a second one.
    """
    from rackwright.stack import load_stack

    root = directory()
    salts = root / ".rackwright" / "salts"
    before = {*salts.glob("*")}
    loaded = load_stack(name, root, whole)
    if loaded.twin is None:
        for path in sorted({*salts.glob("*")} - before):
            notify(Diagnostic(str(path), *NEW_SALT, note=NEW_SALT_NOTE).render("warning"))
    return loaded


def format_target(stack: "Stack") -> str:
    """Return the name of *stack* with the sort of its target, for questions: ``lab (twin)``, ``prod (real hosts)``."""
    return f"{stack.name} ({'real hosts' if stack.twin is None else 'twin'})"


def confirm_change(stack: "Stack", question: str, destroys: bool) -> bool:
    """Return whether the operator agrees to *question*; on real hosts that lose data, by the name of *stack*."""
    return terminal.confirm(question, stack.name) if destroys and stack.twin is None else terminal.confirm(question)


def require_twin(stack: "Stack") -> None:
    """Return if the target of *stack* is a rack, or a twin with a machine that is on.

    Raises:
        HostUnreachable: The twin is off, so no host would answer.
    """
    if is_twin_off(stack):
        help = f"Run {command('rackwright twin start {}', stack.name)}"
        raise HostUnreachable(Diagnostic(f"twin {stack.twin}", "the twin is off", "a twin that is on", help))


def is_twin_off(stack: "Stack") -> bool:
    """Return whether the target of *stack* is a twin whose machines are all off."""
    if stack.twin is None or not stack.fleet.hosts:
        return False
    from rackwright.twin import Twin
    from rackwright.twin.fleet import directory as twin_directory

    return Twin(twin_directory(stack.project, stack.twin), ()).is_off


def notify_twin_off(stack: "Stack") -> None:
    """Write the command that starts the twin of *stack* if the twin is off: a report lists each host as not reached."""
    if is_twin_off(stack):
        notify(f"note: the twin is off; {command('rackwright twin start {}', stack.name)} starts it")


def fleet_file(name: str) -> Path:
    """Return the file with the fleet of the stack *name*."""
    from rackwright.stack.settings import settings

    root = directory()
    return root / "stacks" / settings(name, root)["fleet"]


@contextmanager
def connect_hosts(stack: "Stack", is_report: bool = False) -> Iterator["Hosts"]:
    """Yield the hosts of *stack*; their connections are closed after the block.

    Args:
        is_report: Whether hosts that are not reached are part of the result.

    Raises:
        HostUnreachable: The stack's target is a twin that is off, and the result is no report.
    """
    from rackwright.cli import activity
    from rackwright.hosts.pool import Hosts

    if not is_report:
        require_twin(stack)
    working = activity.Activity()
    hosts = Hosts(stack.endpoints, stack.salt, watch=working.note)
    with activity.show(working):
        try:
            yield hosts
        except Exception:
            hosts.close()
            raise
        # after Ctrl-C and other signals the process ends, and its connections with it
    hosts.close()


def secrets(stack: "Stack") -> "Stack":
    """Return *stack* with the values of its secrets.

    Raises:
        SetupError: They cannot be read here; the error has the reason.
        StepFailed: A signal killed pulumi.
    """
    if not stack.unknown_secrets:
        return stack
    values = secret_values(stack.name)
    return stack.with_secrets(values)


def secret_values(stack: str) -> dict[str, str]:
    """Return the values of all secrets that the settings of *stack* have, by name.

    Raises:
        SetupError: They cannot be read here; the error has the reason.
        StepFailed: A signal killed pulumi.
    """
    from rackwright.cli.killed import killed_error
    from rackwright.schema.secret import CONFIG_KEY, parse_values

    argv = ["pulumi", "config", "--show-secrets", "--json", "--non-interactive", "--stack", stack]
    done = subprocess.run(argv, cwd=directory(), env=environment(stack), capture_output=True, text=True)
    if done.returncode < 0:
        raise killed_error(argv[:2], -done.returncode, stack)
    if done.returncode:
        message = " ".join(done.stderr.removeprefix("error: ").split())
        problem = f'its secrets cannot be decrypted; pulumi printed "{message}"'
        help = "Set PULUMI_CONFIG_PASSPHRASE_FILE, or the credentials of the stack's secrets provider"
        raise SetupError(Diagnostic(f"stack {stack}", problem, help=help, id="secrets-locked"))
    setting = json.loads(done.stdout).get(CONFIG_KEY, {})
    return parse_values(setting.get("value", ""), stack)


def notify(text: str) -> None:
    """Write a line of progress to stderr; stdout is for results."""
    terminal.notify(text)


def rewrite(stack: str, edit: Callable[[Path], str]) -> Path:
    """Replace the text of the file with the fleet of *stack* by the result of *edit*, and return that file.

    Raises:
        DeclarationError: All errors of the new text; the file is unchanged.
    """
    path = fleet_file(stack)
    text = edit(path)
    check(path, text)
    write_atomic(path, text)
    return path


def check(path: Path, text: str) -> None:
    """Check *text* as the content of *path*, a fleet's file.

    Raises:
        DeclarationError: All errors of the text.
    """
    from rackwright.core.repository import Roles
    from rackwright.fleet import load_fleet

    load_fleet(path, Roles(locations.repository()), text=text)


def fleet_schema() -> str:
    """Return the JSON Schema of a fleet's file, with the variables of all roles, as text."""
    from rackwright.core.repository import Roles
    from rackwright.fleet.load import schema

    return f"{json.dumps(schema(Roles(locations.repository())), indent=2)}\n"


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write *files*, readable for everyone, to *directory*, which has no other files.

    Raises:
        ChangeRefused: The directory has other files.
    """
    others = sorted({path.name for path in directory.iterdir()} - {*files}) if directory.is_dir() else []
    if others:
        problem = f"the directory contains another file, {others[0]}"
        expected = "a directory that is absent, empty, or has only files of an earlier run"
        raise ChangeRefused(Diagnostic(str(directory), problem, expected, "Name another directory"))
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = directory / name
        path.write_bytes(content)
        path.chmod(0o644)


def environment(stack: str) -> dict[str, str]:
    """Return the whole environment in which pulumi works on *stack*.

    Raises:
        SetupError: Pulumi would encrypt secrets of a real rack with a published passphrase, or with none.
    """
    from rackwright import toolchain
    from rackwright.stack.passphrase import require_own_passphrase
    from rackwright.stack.settings import RACK, settings, settings_source

    root = directory()
    if settings(stack, root)["target"] == RACK:
        require_own_passphrase(settings_source(stack, root), stack, os.environ)
    toolchain.prepare(root)
    return {**os.environ, **toolchain.environment(root, toolchain.ensure(notify), os.environ)}


def require_writable(page: Path) -> None:
    """Raise an error before any work if *page* cannot be a file.

    Raises:
        SetupError: the path is a directory, or its directory cannot be written.
    """
    if page.is_dir() or not os.access(page.parent, os.W_OK):
        problem = "the page cannot be written there"
        raise SetupError(Diagnostic(str(page), problem, help="Name a file in a writable directory"))

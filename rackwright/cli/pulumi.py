"""The commands preview and up: they run pulumi, list unknown hosts, and return an exit status by the result."""

import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

from rackwright.cli import project
from rackwright.cli.killed import killed_error
from rackwright.errors import DeclarationError, Diagnostic, SetupError, StepFailed, command
from rackwright.kinds.table import KINDS
from rackwright.lock.tree import find_missing
from rackwright.provider import consents, outcomes, state_format
from rackwright.provider.outcomes import Outcome
from rackwright.schema.problem import hint
from rackwright.stack import Stack, declare
from rackwright.stack.passphrase import check_state
from rackwright.stack.stack import RACK, settings

Verb = Literal["preview", "up"]
UNCHANGED = {"same", "read", "refresh"}
INTERRUPTED = (130, -signal.SIGINT)
"""Exit statuses of a pulumi that the user has interrupted."""


def run(verb: Verb, stack: str, stdout: IO[str] | None = None, consented: Sequence[str] = ()) -> int:
    """Run pulumi's *verb* on *stack*, and return rackwright's exit status.

    Args:
        consented: Consents to overwrite drives, for this run alone: ``SERIAL=CONTENT``.
        stdout: The stream for pulumi's output; None for rackwright's own stdout.
    """
    consent_variables = consents.pass_on(_consents(project.stack(stack), consented))
    _check(project.stack(stack))  # errors are reported before anything starts
    root = project.directory()
    with tempfile.TemporaryDirectory() as scratch:
        events, outcome_file = Path(scratch, "events"), Path(scratch, "outcomes")
        environment = {
            **project.environment(stack),
            outcomes.VARIABLE: str(outcome_file),
            "PULUMI_DEBUG_COMMANDS": "true",
        }
        environment |= consent_variables
        exported = json.loads(select(stack, root, environment))
        for found in state_format.formats(exported.get("deployment") or {}):
            state_format.check_format(found, stack)
        argv = ["pulumi", verb, "--stack", stack, "--event-log", str(events)]
        status = 0
        if verb == "up":
            # The preview of `pulumi up` would end at the first refusal, with nothing done. This preview shows the plan,
            # and resources that do not depend on a refused one are still changed.
            plan = {**environment, outcomes.VARIABLE: str(Path(scratch, "planned"))}
            preview = subprocess.run(["pulumi", "preview", "--stack", stack], cwd=root, env=plan, stdout=stdout)
            status = preview.returncode if _was_stopped(preview.returncode) else 0
            argv += ["--yes", "--skip-preview"]
        if not status:
            status = subprocess.run(argv, cwd=root, env=environment, stdout=stdout).returncode
        resources = outcomes.read(outcome_file)
        changes = _changes(events, resources.get("unreachable", set()))
    _summarise(resources)
    if status < 0 and status not in INTERRUPTED:
        project.notify(killed_error(argv[:2], -status, stack).render())
    return exit_status(verb, status, changes, resources)


def _was_stopped(status: int) -> bool:
    """Return whether a signal or the user ended pulumi, so that no command should follow."""
    return status < 0 or status in INTERRUPTED


def _consents(stack: Stack, consented: Sequence[str]) -> dict[str, str]:
    """Return the consents by serial; raise if one is for a drive of no tier."""
    parsed = consents.parse(consented)
    members = [drive.serial for host in stack.fleet.hosts.values() for drive in host.drives if drive.tier]
    expected = "the serial of a drive in a tier"
    wrong = [
        Diagnostic("--consent", f"no tier has a drive {serial}", expected, hint(serial, members, "Leave it out"))
        for serial in parsed
        if serial not in members
    ]
    if wrong:
        raise DeclarationError(*wrong)
    return parsed


def _check(stack: Stack) -> None:
    """Raise if the declaration or its lock has errors, or if the local repository lacks packages for the hosts."""
    declare(stack)
    if stack.lock and stack.brings_packages and (missing := find_missing(stack.lock, stack.local_repository)):
        help = f"Run {command('rackwright lock --fetch {}', stack.name)}"
        problem, expected = f"the local repository is incomplete: {missing}", "all packages in the lock"
        raise SetupError(Diagnostic(str(stack.local_repository), problem, expected, help))


def exit_status(verb: Verb, status: int, changes: bool, resources: Mapping[Outcome, set[str]]) -> int:
    """Return the exit status: 0 as declared, 1 differs, 2 refused, 3 unknown, 4 a step failed.

    Args:
        status: Pulumi's exit status; negative if a signal killed it.
        changes: True if pulumi planned changes on hosts that were reached.
        resources: The resources with each outcome that the provider has recorded.
    """
    if status in INTERRUPTED:
        return 130
    if status < 0:
        return 4
    if status > 1:
        return 2
    if resources.get("failed"):
        return 4
    if resources.get("refused"):
        return 2
    if status:
        return 4
    if resources.get("by_hand") or (verb == "preview" and changes):
        return 1
    return 3 if resources.get("unknown") or resources.get("unreachable") else 0


def _changes(events: Path, unreachable: Set[str]) -> bool:
    """Return whether pulumi plans a known change. It plans all resources of an unreachable host, which are not known.

    Args:
        unreachable: Resources of hosts that were not reached. With any of them, changes of components are ignored.
    """
    if not events.exists():
        return False
    for line in events.read_text().splitlines():
        event: dict[str, Any] = json.loads(line).get("resourcePreEvent") or {}
        planned = event.get("metadata") or {}
        if planned.get("op", "same") in UNCHANGED:
            continue
        if not unreachable or (planned["type"] in KINDS and planned["urn"].rpartition("::")[2] not in unreachable):
            return True
    return False


def _summarise(resources: Mapping[Outcome, set[str]]) -> None:
    for outcome, heading in outcomes.HEADINGS.items():
        if names := resources.get(outcome):
            project.notify(f"{heading}: {', '.join(sorted(names))}")


def select(stack: str, root: Path, environment: Mapping[str, str]) -> str:
    """Return the stack's state, as `pulumi stack export` prints it; an empty one is created if there is none.

    The lock of a process that died on this computer is released.

    Raises:
        SetupError: A file of the state is damaged; the error says how to repair it.
        StepFailed: Pulumi failed.
        DeclarationError: A published passphrase opens the state of a real rack.
    """
    _check_state_files(stack, environment)
    _pulumi(["stack", "select", "--create", stack], stack, root, environment)
    for lock in _locks(environment):
        if f"/{stack}/" not in str(lock):
            continue
        holder = _read_lock(lock)
        if holder["hostname"] == socket.gethostname() and not _alive(holder["pid"]):
            project.notify(f"the stack was locked by process {holder['pid']}, which has died; releasing the lock")
            _pulumi(["cancel", "--yes", "--stack", stack], stack, root, environment)
    exported = _pulumi(["stack", "export", "--stack", stack], stack, root, environment)
    if settings(stack, root)["target"] == RACK:
        check_state(stack, json.loads(exported).get("deployment") or {}, root)
    return exported


def _pulumi(command: Sequence[str], stack: str, root: Path, environment: Mapping[str, str]) -> str:
    """Run pulumi's *command*, and return its output.

    Raises:
        StepFailed: Pulumi failed; the error has its output, or the signal that killed it.
    """
    argv = ["pulumi", *command]
    done = subprocess.run(argv, cwd=root, env=environment, capture_output=True, text=True, errors="backslashreplace")
    if done.returncode < 0:
        raise killed_error(argv[:2], -done.returncode, stack)
    if done.returncode:
        output = " ".join((done.stderr.strip() or done.stdout).split())
        problem = f'`{shlex.join(argv)}` failed with status {done.returncode}, and printed "{output}"'
        help = "Correct the reported error, and run the command again"
        raise StepFailed(Diagnostic(f"stack {stack}", problem, help=help))
    return done.stdout


def _check_state_files(stack: str, environment: Mapping[str, str]) -> None:
    """Check the files of a file backend, which a full disk leaves empty or truncated.

    Raises:
        SetupError: A file is damaged; the error says how to repair it.
    """
    note, again = "a full disk leaves such a file", f"run {command('rackwright up {}', stack)} again"
    for lock in _locks(environment):
        if f"/{stack}/" in str(lock):
            try:
                _read_lock(lock)
            except (ValueError, KeyError, TypeError):
                problem = f"the lock of the state is damaged: its {_size(lock)} are not a lock of pulumi"
                remove = f"remove the lock with {command('rm {}', str(lock))}"
                help = f"Make sure that no other pulumi runs, {remove}, and {again}"
                raise SetupError(Diagnostic(str(lock), problem, "complete JSON", help, note)) from None
    for state in _files(environment, f".pulumi/stacks/**/{stack}.json"):
        if _is_json(state):
            continue
        copy = state.with_name(f"{state.name}.bak")
        if copy.is_file() and _is_json(copy):
            help = f"Restore pulumi's copy with {command('cp {} {}', str(copy), str(state))}, and {again}"
        else:
            aside = command("mv {} {}", str(state), f"{state}.damaged")
            help = f"Move the file aside with {aside}, and {again}, which reads the state from the hosts"
        problem = f"the state is damaged: its {_size(state)} are not a state of pulumi"
        raise SetupError(Diagnostic(str(state), problem, "complete JSON", help, note))


def _read_lock(lock: Path) -> dict[str, Any]:
    """Return the holder that pulumi's *lock* names: its hostname and pid.

    Raises:
        ValueError, KeyError, TypeError: The file is empty, truncated, or something else.
    """
    holder = json.loads(lock.read_text())
    return {"hostname": str(holder["hostname"]), "pid": int(holder["pid"])}


def _is_json(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_text()), dict)
    except (OSError, ValueError):
        return False


def _size(path: Path) -> str:
    return f"{path.stat().st_size} bytes"


def _locks(environment: Mapping[str, str]) -> list[Path]:
    """Return the lock files of a file backend; other backends release their locks themselves."""
    return _files(environment, ".pulumi/locks/**/*.json")


def _files(environment: Mapping[str, str], pattern: str) -> list[Path]:
    """Return the files of a file backend that match *pattern*; none for other backends."""
    url = urlsplit(environment["PULUMI_BACKEND_URL"])
    return sorted(Path(unquote(url.path)).glob(pattern)) if url.scheme == "file" else []


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

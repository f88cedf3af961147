"""Preview and up: pulumi itself, with what it does not say: which hosts are unknown, and an exit status that tells."""

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
from rackwright.errors import DeclarationError, DeclarationErrors, SetupError, StepFailed, command
from rackwright.kinds import KINDS
from rackwright.lock.tree import find_missing
from rackwright.provider import consents, outcomes
from rackwright.provider.outcomes import Outcome
from rackwright.schema.problem import hint
from rackwright.stack import Stack, declare
from rackwright.stack.passphrase import check_state
from rackwright.stack.stack import RACK, settings

Verb = Literal["preview", "up"]
UNCHANGED = {"same", "read", "refresh"}
INTERRUPTED = (130, -signal.SIGINT)
"""Exit statuses of a pulumi that its user has interrupted."""


def run(verb: Verb, stack: str, stdout: IO[str] | None = None, given_up: Sequence[str] = ()) -> int:
    """Run pulumi's *verb* on *stack*, and return rackwright's exit status.

    Args:
        given_up: What drives may lose, for this run alone: ``SERIAL=CONTENT``.
        stdout: Where pulumi says what it does; None: where rackwright does.
    """
    passed = consents.pass_on(_consents(project.stack(stack), given_up))
    _check(project.stack(stack))  # what is wrong is said before anything is started
    root = project.directory()
    with tempfile.TemporaryDirectory() as scratch:
        events, told = Path(scratch, "events"), Path(scratch, "outcomes")
        environment = {**project.environment(stack), outcomes.VARIABLE: str(told), "PULUMI_DEBUG_COMMANDS": "true"}
        environment |= passed
        select(stack, root, environment)
        argv = ["pulumi", verb, "--stack", stack, "--event-log", str(events)]
        status = 0
        if verb == "up":
            # The preview of `pulumi up` would end it at the first refusal, with nothing done. This one shows the plan,
            # and what does not depend on a refused resource goes on.
            plan = {**environment, outcomes.VARIABLE: str(Path(scratch, "planned"))}
            shown = subprocess.run(["pulumi", "preview", "--stack", stack], cwd=root, env=plan, stdout=stdout)
            status = shown.returncode if _was_stopped(shown.returncode) else 0
            argv += ["--yes", "--skip-preview"]
        if not status:
            status = subprocess.run(argv, cwd=root, env=environment, stdout=stdout).returncode
        found = outcomes.read(told)
        changes = _changes(events, found.get("unreachable", set()))
    _summarise(found)
    if status < 0 and status not in INTERRUPTED:
        project.say(str(_killed(argv[:2], -status, stack)))
    return exit_status(verb, status, changes, found)


def _was_stopped(status: int) -> bool:
    """Return whether a signal or its user ended pulumi, so that nothing should follow."""
    return status < 0 or status in INTERRUPTED


def _consents(stack: Stack, given_up: Sequence[str]) -> dict[str, str]:
    """Return the consents by serial; raise where one is for no drive of a tier."""
    found = consents.parse(given_up)
    members = [drive.serial for host in stack.fleet.hosts.values() for drive in host.drives if drive.tier]
    want = "consent is for a drive of a tier"
    wrong = [
        DeclarationError("--consent", f"got one for {serial}", want, hint(serial, members, "Leave it out"))
        for serial in found
        if serial not in members
    ]
    if wrong:
        raise DeclarationErrors(wrong)
    return found


def _check(stack: Stack) -> None:
    """Raise what is wrong with the declaration and its lock, and where packages that hosts may want are not here."""
    declare(stack)
    if stack.lock and stack.brings_packages and (missing := find_missing(stack.lock, stack.local_repository)):
        fix = f"Run {command('rackwright lock --fetch {}', stack.name)}"
        raise SetupError(
            str(stack.local_repository), f"got no complete tree: {missing}", "hosts get their packages from it", fix
        )


def exit_status(verb: Verb, status: int, changes: bool, found: Mapping[Outcome, set[str]]) -> int:
    """Return 0 as wanted, 1 differs, 2 refused, 3 unknown, 4 a step failed.

    Args:
        status: Pulumi's own; negative where a signal killed it.
        changes: Whether it planned any on hosts that were reached.
        found: What the provider met, by resource.
    """
    if status in INTERRUPTED:
        return 130
    if status < 0:
        return 4
    if status > 1:
        return 2
    if found.get("failed"):
        return 4
    if found.get("refused"):
        return 2
    if status:
        return 4
    if found.get("by_hand") or (verb == "preview" and changes):
        return 1
    return 3 if found.get("unknown") or found.get("unreachable") else 0


def _changes(events: Path, unreachable: Set[str]) -> bool:
    """Return whether pulumi plans a change that is known: for a host that is not reached it plans all there is.

    Args:
        unreachable: Resources of hosts that were not reached. With any of them, components tell nothing.
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


def _summarise(found: Mapping[Outcome, set[str]]) -> None:
    for outcome, heading in outcomes.HEADINGS.items():
        if resources := found.get(outcome):
            project.say(f"{heading}: {', '.join(sorted(resources))}")


def select(stack: str, root: Path, environment: Mapping[str, str]) -> None:
    """Make the stack's state where there is none, and free it from a holder that died on this computer.

    Raises:
        SetupError: a file of the state is damaged; says how to mend it.
        StepFailed: pulumi ended badly.
        DeclarationErrors: a published passphrase opens the state of a real rack.
    """
    _check_state_files(stack, environment)
    _pulumi(["stack", "select", "--create", stack], stack, root, environment)
    for lock in _locks(environment):
        if f"/{stack}/" not in str(lock):
            continue
        holder = _read_lock(lock)
        if holder["hostname"] == socket.gethostname() and not _alive(holder["pid"]):
            project.say(f"the stack was locked by process {holder['pid']}, which has died: releasing it")
            _pulumi(["cancel", "--yes", "--stack", stack], stack, root, environment)
    if settings(stack, root)["target"] == RACK:
        exported = json.loads(_pulumi(["stack", "export", "--stack", stack], stack, root, environment))
        check_state(stack, exported.get("deployment") or {}, root)


def _pulumi(command: Sequence[str], stack: str, root: Path, environment: Mapping[str, str]) -> str:
    """Run pulumi's *command*, and return what it prints.

    Raises:
        StepFailed: it ended badly; says what it printed, or which signal killed it.
    """
    argv = ["pulumi", *command]
    done = subprocess.run(argv, cwd=root, env=environment, capture_output=True, text=True, errors="backslashreplace")
    if done.returncode < 0:
        raise _killed(argv[:2], -done.returncode, stack)
    if done.returncode:
        got = f'`{shlex.join(argv)}` ended with "{" ".join((done.stderr.strip() or done.stdout).split())}"'
        raise StepFailed(f"stack {stack}", got, "pulumi opens its state", "Mend that, and run it again")
    return done.stdout


def _killed(argv: Sequence[str], number: int, stack: str) -> StepFailed:
    """Return the error for a command that the signal *number* has killed."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    fix = "Run it again: it looks at the hosts first, and what holds already is left alone"
    return StepFailed(f"stack {stack}", f"`{shlex.join(argv)}` was killed by {name}", "pulumi runs to its end", fix)


def _check_state_files(stack: str, environment: Mapping[str, str]) -> None:
    """Check the files of a file backend that a full disk leaves empty or cut off.

    Raises:
        SetupError: one is damaged; says how to mend it.
    """
    want, full = "it is whole JSON", "Free space on that disk if it is full, then"
    again = f"run {command('rackwright up {}', stack)} again"
    for lock in _locks(environment):
        if f"/{stack}/" in str(lock):
            try:
                _read_lock(lock)
            except (ValueError, KeyError, TypeError):
                got = f"got {_size(lock)} that are no lock of pulumi's"
                fix = f"{full} see that no other pulumi runs, remove it with {command('rm {}', str(lock))}, and {again}"
                raise SetupError(str(lock), got, want, fix) from None
    for state in _files(environment, f".pulumi/stacks/**/{stack}.json"):
        if _is_json(state):
            continue
        kept = state.with_name(f"{state.name}.bak")
        if kept.is_file() and _is_json(kept):
            how = f"put the copy before it back with {command('cp {} {}', str(kept), str(state))}, and {again}"
        else:
            aside = command("mv {} {}", str(state), f"{state}.damaged")
            how = f"move it aside with {aside}, and {again}: it reads the state from the hosts"
        raise SetupError(str(state), f"got {_size(state)} that are no state of pulumi's", want, f"{full} {how}")


def _read_lock(lock: Path) -> dict[str, Any]:
    """Return whom pulumi's *lock* names.

    Raises:
        ValueError, KeyError, TypeError: it is empty, cut off, or something else.
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
    """Return the lock files of a file backend; other backends free their locks by themselves."""
    return _files(environment, ".pulumi/locks/**/*.json")


def _files(environment: Mapping[str, str], pattern: str) -> list[Path]:
    """Return the files of a file backend that *pattern* names; none of other backends."""
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

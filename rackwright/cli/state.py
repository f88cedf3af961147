"""A stack's state: the resources that pulumi has recorded, its lock, and commands on them."""

import json
import os
import shlex
import socket
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rackwright import locations, process_tree
from rackwright.cli import project
from rackwright.cli.killed import killed_error
from rackwright.errors import ChangeRefused, Diagnostic, SetupError, StepFailed, UserError, command
from rackwright.foreign import InvalidData, parse_object

STATE_BYTES, STATE_DEPTH, STATE_VALUES = 512 << 20, 200, 10_000_000
"""Maximum size, levels and number of values of a state: one of 1,000 hosts has 50 MiB."""


def pulumi(stack: str, *argv: str) -> str:
    """Run pulumi on *stack*, and return its output.

    Raises:
        StepFailed: Pulumi failed; the error has its output, or the signal that killed it.
    """
    return _run([*argv, "--stack", stack], stack, project.directory(), _environment(stack))


def parse_state(exported: str) -> dict[str, Any]:
    """Return the exported state of a stack, which other people with access to it may have written.

    Raises:
        StepFailed: It is no JSON object, or exceeds the bounds.
    """
    try:
        return parse_object(exported, STATE_BYTES, STATE_DEPTH, STATE_VALUES)
    except InvalidData as error:
        help = "Restore an earlier version of the state"
        raise StepFailed(Diagnostic("the state of pulumi", f"it cannot be read: {error}", help=help)) from None


def urns(stack: str) -> list[str]:
    """Return the URNs of all resources, each after those that it depends on."""
    exported = parse_state(pulumi(stack, "stack", "export"))
    return [resource["urn"] for resource in (exported["deployment"] or {}).get("resources", [])]


@cache
def _environment(stack: str) -> dict[str, str]:
    """Return pulumi's environment; the cache checks the toolchain once for all commands."""
    return project.environment(stack)


def select(stack: str, root: Path, environment: Mapping[str, str]) -> str:
    """Return the stack's state, as `pulumi stack export` prints it; an empty one is created if there is none.

    The lock of a process that died on this computer is released.

    Raises:
        SetupError: A file of the state is damaged; the error says how to repair it.
        StepFailed: Pulumi failed.
        DeclarationError: A published passphrase opens the state of a real rack.
    """
    from rackwright.stack.passphrase import check_state
    from rackwright.stack.settings import RACK, settings

    _check_state_files(stack, environment)
    _run(["stack", "select", "--create", stack], stack, root, environment)
    for lock in _locks(environment):
        if f"/{stack}/" not in str(lock):
            continue
        holder = _read_lock(lock)
        if holder["hostname"] == socket.gethostname() and not _alive(holder["pid"]):
            project.notify(f"the stack was locked by process {holder['pid']}, which has died; releasing the lock")
            _run(["cancel", "--yes", "--stack", stack], stack, root, environment)
    exported = _run(["stack", "export", "--stack", stack], stack, root, environment)
    if settings(stack, root)["target"] == RACK:
        check_state(stack, parse_state(exported).get("deployment") or {}, root)
    return exported


def ensure(stack: str, root: Path, environment: Mapping[str, str]) -> None:
    """Create the stack if there is none; unlike `select`, the command starts no pulumi for one of a file backend.

    Raises:
        DeclarationError: A published passphrase opens the settings of a real rack.
        StepFailed: Pulumi failed.
    """
    from rackwright.stack import passphrase
    from rackwright.stack.settings import RACK, settings, settings_source

    if settings(stack, root)["target"] == RACK:
        passphrase.check(settings_source(stack, root), stack, root.resolve())
    if not _files(environment, f".pulumi/stacks/**/{stack}.json"):
        _run(["stack", "select", "--create", stack], stack, root, environment)


def create_missing(root: Path, environment: Mapping[str, str]) -> list[str]:
    """Create the stacks of the project *root* that a file backend does not have, and return their names.

    Stacks of a real rack without a passphrase of their own, and those with errors in their settings, are left out.
    Other backends belong to several people, who create their stacks.
    """
    from rackwright.toolchain.cache import hold_lock

    if urlsplit(environment["PULUMI_BACKEND_URL"]).scheme != "file" or not _missing(root, environment):
        return []
    # two commands at once would refuse each other's stacks
    with hold_lock(root / ".rackwright" / "stacks.lock", project.notify):
        return _create(root, environment)


def _missing(root: Path, environment: Mapping[str, str]) -> list[str]:
    names = locations.stack_names(root)
    return [name for name in names if not _files(environment, f".pulumi/stacks/**/{name}.json")]


def _create(root: Path, environment: Mapping[str, str]) -> list[str]:
    from rackwright.stack.passphrase import require_own_passphrase
    from rackwright.stack.settings import RACK, settings, settings_source

    created: list[str] = []
    for name in _missing(root, environment):
        try:
            if settings(name, root)["target"] == RACK:
                require_own_passphrase(settings_source(name, root), name, environment)
            _run(["stack", "select", "--create", name], name, root, environment)
        except UserError as error:
            project.notify(f"note: stack {name} is not created: {error.diagnostic.problem}")
        else:
            created.append(name)
    return created


def require_unlocked(stack: str, environment: Mapping[str, str]) -> None:
    """Return if no pulumi holds the lock of the state; select() has released those of dead processes.

    Raises:
        ChangeRefused: A pulumi holds it.
    """
    for lock in _locks(environment):
        if f"/{stack}/" in str(lock):
            holder = _read_lock(lock)
            problem = f"process {holder['pid']} on {holder['hostname']} has locked the state"
            help = f"Wait for its end; if it has died, run {command('pulumi cancel --stack {}', stack)}"
            note = "nothing was changed"
            raise ChangeRefused(Diagnostic(f"stack {stack}", problem, help=help, note=note, id="stack-locked"))


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
                raise SetupError(
                    Diagnostic(str(lock), problem, "complete JSON", help, note, id="state-damaged")
                ) from None
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
        raise SetupError(Diagnostic(str(state), problem, "complete JSON", help, note, id="state-damaged"))


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


def _run(command: Sequence[str], stack: str, root: Path, environment: Mapping[str, str]) -> str:
    """Run pulumi's *command*, and return its output. After a stop it ends by itself: it may hold the state's lock.

    Raises:
        StepFailed: Pulumi failed; the error has its output, or the signal that killed it.
    """
    argv = ["pulumi", *command]
    done = process_tree.run(argv, process_tree.GENTLE, cwd=root, env=environment, errors="backslashreplace")
    if done.returncode < 0:
        raise killed_error(argv[:2], -done.returncode, stack)
    if done.returncode:
        output = " ".join((done.stderr.strip() or done.stdout).split())
        problem = f'`{shlex.join(argv)}` failed with status {done.returncode}, and printed "{output}"'
        help = "Correct the reported error, and run the command again"
        raise StepFailed(Diagnostic(f"stack {stack}", problem, help=help))
    return done.stdout

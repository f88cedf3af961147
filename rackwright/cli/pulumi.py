"""Preview and up: pulumi itself, with what it does not say: which hosts are unknown, and an exit status that tells."""

import json
import os
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

from rackwright.cli import project
from rackwright.declaration import Stack, declare
from rackwright.errors import SetupError
from rackwright.mirror.tree import lacking
from rackwright.provider import outcomes
from rackwright.provider.outcomes import Outcome

Verb = Literal["preview", "up"]
UNCHANGED = {"same", "read", "refresh"}


def run(verb: Verb, stack: str, stdout: IO[str] | None = None) -> int:
    """Run pulumi's *verb* on *stack*, and return rackwright's exit status.

    Args:
        stdout: Where pulumi says what it does; None: where rackwright does.
    """
    _check(project.stack(stack))  # what is wrong is said before anything is started
    root = project.directory()
    with tempfile.TemporaryDirectory() as scratch:
        events, told = Path(scratch, "events"), Path(scratch, "outcomes")
        environment = {**project.environment(), outcomes.VARIABLE: str(told), "PULUMI_DEBUG_COMMANDS": "true"}
        select(stack, root, environment)
        yes = ["--yes"] if verb == "up" else []
        argv = ["pulumi", verb, "--stack", stack, *yes, "--event-log", str(events)]
        status = subprocess.run(argv, cwd=root, env=environment, stdout=stdout).returncode
        found = outcomes.read(told)
        changes = _changes(events)
    _summarise(found)
    return exit_status(verb, status, changes, found)


def _check(stack: Stack) -> None:
    """Raise what is wrong with the declaration and its lock, and where packages that hosts may want are not here."""
    declare(stack)
    if stack.lock and stack.brings_packages and (what := lacking(stack.lock, stack.repository)):
        fix = f"Run `rackwright lock --fetch {stack.name}`"
        raise SetupError(str(stack.repository), f"got no local repository of it: {what}", "hosts are served by it", fix)


def exit_status(verb: Verb, status: int, changes: bool, found: Mapping[Outcome, set[str]]) -> int:
    """Return 0 as wanted, 1 differs, 2 refused, 3 unknown, 4 a step failed.

    Args:
        status: Pulumi's own.
        changes: Whether it planned any.
        found: What the provider met, by resource.
    """
    if status and status != 1:
        return status if status == 130 else 2
    if found.get("failed"):
        return 4
    if found.get("refused"):
        return 2
    if status:
        return 4
    if found.get("by_hand") or (verb == "preview" and changes):
        return 1
    return 3 if found.get("unknown") or found.get("unreachable") else 0


def _changes(events: Path) -> bool:
    if not events.exists():
        return False
    summary: Counter[str] = Counter()
    for line in events.read_text().splitlines():
        event: dict[str, Any] = json.loads(line)
        summary.update((event.get("summaryEvent") or {}).get("resourceChanges") or {})
    return any(count and operation not in UNCHANGED for operation, count in summary.items())


def _summarise(found: Mapping[Outcome, set[str]]) -> None:
    for outcome, heading in outcomes.HEADINGS.items():
        if resources := found.get(outcome):
            project.say(f"{heading}: {', '.join(sorted(resources))}")


def select(stack: str, root: Path, environment: Mapping[str, str]) -> None:
    """Make the stack's state where there is none, and free it from a holder that died on this computer."""
    argv = ["pulumi", "stack", "select", "--create", stack]
    subprocess.run(argv, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    for lock in _locks(environment):
        holder = json.loads(lock.read_text())
        if f"/{stack}/" in str(lock) and holder["hostname"] == socket.gethostname() and not _alive(holder["pid"]):
            project.say(f"the stack was locked by process {holder['pid']}, which has died: releasing it")
            subprocess.run(["pulumi", "cancel", "--yes", "--stack", stack], cwd=root, env=environment, check=True)


def _locks(environment: Mapping[str, str]) -> list[Path]:
    """Return the lock files of a file backend; other backends free their locks by themselves."""
    url = urlsplit(environment["PULUMI_BACKEND_URL"])
    return sorted(Path(unquote(url.path)).glob(".pulumi/locks/**/*.json")) if url.scheme == "file" else []


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

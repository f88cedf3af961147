"""Entries of commands in the operations log, and copies of its head at the second place."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rackwright import locations
from rackwright.cli import project
from rackwright.errors import UserError
from rackwright.log import digests
from rackwright.log.entry import Outcome, PlannedChange
from rackwright.log.operation import VARIABLE, Operation
from rackwright.log.operation import record as record_operation
from rackwright.log.writer import OperationsLog, open_log

if TYPE_CHECKING:
    from rackwright.facts.log_chain import HostHead, SeenHead
    from rackwright.stack import Stack

_OUTCOMES: Mapping[int, Outcome] = {0: "done", 1: "done", 2: "refused", 3: "done", 130: "cancelled"}
"""The outcome of a command by its exit status; 4 is a failure, as is every other one."""


def current_log() -> OperationsLog:
    """Return the log of the project of the current directory; without a project, that of this account."""
    return open_log(locations.find_project(Path.cwd()), os.environ)


@contextmanager
def record(
    command: str,
    stack: "Stack | str" = "",
    hosts: Iterable[str] = (),
    arguments: Mapping[str, str] | None = None,
    planned: Sequence[PlannedChange] | None = None,
) -> Iterator[Operation]:
    """Yield the operation of *command*, whose entries stand in the log before and after its changes.

    Operations of commands and providers below it name it as their parent.

    Args:
        planned: The changes; with None, the block begins the operation itself.

    Raises:
        LogNotWritten: The log cannot be written, so nothing may change.
    """
    name, of = (stack, digests.of_code()) if isinstance(stack, str) else (stack.name, digests.of_stack(stack))
    log, outer = current_log(), os.environ.get(VARIABLE)
    operation = record_operation(log.append, command, stack=name, hosts=[*hosts], arguments=arguments, digests=of)
    try:
        with operation as entered:
            os.environ[VARIABLE] = entered.id
            try:
                if planned is not None:
                    entered.begin(planned)
                yield entered
            finally:
                os.environ.pop(VARIABLE)
                if outer is not None:
                    os.environ[VARIABLE] = outer
    finally:
        if outer is None and log.has_written:
            _copy_head(log)


def change(resource: str, change: str, host: str = "", destroys: Iterable[str] = ()) -> PlannedChange:
    """Return a planned change without steps."""
    return {"host": host, "resource": resource, "change": change, "steps": [], "destroys": [*destroys]}


def finish(operation: Operation, status: int) -> int:
    """Note *status* as the exit status of the command of *operation*, and return it."""
    operation.exit_status, operation.outcome = status, _OUTCOMES.get(status, "failed")
    return status


def note(
    command: str, stack: "Stack", hosts: Iterable[str], status: int, host_heads: "Mapping[str, HostHead] | None" = None
) -> None:
    """Write one entry about a command that only reads; a log that cannot be written is reported and no error."""
    try:
        with record(command, stack, hosts) as operation:
            operation.host_heads = host_heads or {}
            finish(operation, status)
    except UserError as error:
        project.notify(f"the command is not in the operations log: {error}")


def seen_heads(stack: str) -> "Mapping[str, tuple[SeenHead, ...]] | None":
    """Return the heads of audit logs of *stack* that earlier audits saw; None, with a note, if they cannot be read."""
    from rackwright.log.chain import Break
    from rackwright.log.host_heads import read_heads
    from rackwright.log.reading import read_log

    path = current_log().path
    if not path.exists():
        return {}
    try:
        heads = read_heads(read_log(path), stack)
    except UserError as error:
        project.notify(f"audit logs of hosts are not compared with earlier audits: {error}")
        return None
    if isinstance(heads, Break):
        project.notify(f"audit logs of hosts are not compared with earlier audits: {path}: {heads}")
        return None
    return heads


def moved_archives(stack: str, bucket: str) -> frozenset[str]:
    """Return the archives that moves of *stack* have put into *bucket*; none, with a note, without a readable log."""
    from rackwright.log import archives
    from rackwright.log.chain import Break
    from rackwright.log.reading import read_log

    path = current_log().path
    if not path.exists():
        return frozenset()
    found = archives.moved_archives(read_log(path), stack, bucket)
    if isinstance(found, Break):
        project.notify(f"the archives of {bucket} are not compared with the operations log: {path}: {found}")
        return frozenset()
    return found


def _copy_head(log: OperationsLog) -> None:
    """Copy the head to the second place, if one is set; a failure is reported, and is no error of the command."""
    from rackwright.log.copying import copy_head
    from rackwright.log.places import VARIABLE as PLACE
    from rackwright.log.places import parse_place

    if not (place := os.environ.get(PLACE)):
        return
    try:
        copy_head(log.path, parse_place(place))
    except UserError as error:
        project.notify(f"the head of the operations log is not copied: {error}")

"""One operation in the log: an entry `began` before the first change, and an entry `ended` after the last one."""

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, HostUnreachable, StepFailed, UserError
from rackwright.facts.log_chain import HostHead
from rackwright.log.entry import CompletedChange, EntryData, Event, Outcome, PlannedChange

VARIABLE = "RACKWRIGHT_OPERATION"
"""The environment variable with the identifier of the command's operation, for the provider and commands below it."""
_OUTCOMES: tuple[tuple[type[BaseException], Outcome], ...] = (
    (ChangeRefused, "refused"),
    (DeclarationError, "refused"),
    (HostUnreachable, "unreachable"),
    (Exception, "failed"),
    (BaseException, "cancelled"),  # Ctrl-C, SIGTERM and SIGHUP
)


class EndNotWritten(StepFailed):
    """The operation has ended, and its end is not in the log."""


class Append(Protocol):
    """Appends an entry to a log; see rackwright.log.writer."""

    def __call__(self, event: Event, fields: EntryData, /) -> object: ...


@dataclass
class Operation:
    """An operation that writes its entries."""

    append: Append
    about: EntryData
    """The fields that both entries share."""
    redact: Callable[[str], str] = str
    """Removes secrets from a text."""
    begun: bool = False
    planned: Sequence[PlannedChange] = ()
    completed: list[CompletedChange] = field(default_factory=list)
    outcome: Outcome | None = None
    """The result, if it is another one than `done`, or one without any change."""
    exit_status: int | None = None
    host_heads: Mapping[str, HostHead] = field(default_factory=dict)
    """Newest entry in the chain of each host's audit log that continues the entry which earlier audits saw."""

    @property
    def id(self) -> str:
        return self.about["operation"]

    def begin(self, planned: Sequence[PlannedChange]) -> None:
        """Write the entry before the first change; a second call writes nothing.

        Raises:
            LogNotWritten: The entry is not in the log, so nothing may change.
        """
        if self.begun:
            return
        self.planned = [self._redact_change(change) for change in planned]
        self.append("began", {**self.about, "planned": self.planned})
        self.begun = True

    def end(self, outcome: Outcome, error: str = "") -> None:
        """Write the entry after the last change.

        Raises:
            LogNotWritten: The entry is not in the log.
        """
        fields: EntryData = {**self.about, "completed": self.completed, "outcome": outcome}
        if self.exit_status is not None:
            fields["exit_status"] = self.exit_status
        if self.host_heads:
            fields["host_heads"] = self.host_heads
        if error:
            fields["error"] = self.redact(error)
        self.append("ended", fields)

    def complete(self, host: str, resource: str, outcome: str, steps_done: int | None = None) -> None:
        """Note the result of one change for the entry after the last one."""
        self.completed.append({"host": host, "resource": resource, "outcome": outcome, "steps_done": steps_done})

    def _redact_change(self, change: PlannedChange) -> PlannedChange:
        steps, destroys = (list(map(self.redact, texts)) for texts in (change["steps"], change["destroys"]))
        return {**change, "steps": steps, "destroys": destroys}


@contextmanager
def record(
    append: Append,
    command: str,
    *,
    stack: str = "",
    hosts: Sequence[str] = (),
    resource: str = "",
    arguments: Mapping[str, str] | None = None,
    digests: Mapping[str, str] | None = None,
    redact: Callable[[str], str] = str,
    every_attempt: bool = False,
) -> Iterator[Operation]:
    """Yield an operation whose end is written after the block, with the outcome that fits an exception.

    Args:
        every_attempt: Write the end also of an operation that has changed nothing.

    Raises:
        EndNotWritten: The operation is done, and its end is not in the log.
    """
    about: EntryData = {
        "operation": secrets.token_hex(8),
        "parent": os.environ.get(VARIABLE),
        "command": command,
        "stack": stack,
        "hosts": list(hosts),
        "resource": resource,
        "arguments": dict(arguments or {}),
        "digests": dict(digests or {}),
    }
    operation = Operation(append, about, redact)
    try:
        yield operation
    except BaseException as error:
        if operation.begun or every_attempt:
            _end_after(error, operation)
        raise
    if operation.begun or operation.outcome or every_attempt:
        try:
            operation.end(operation.outcome or ("done" if operation.begun else "unchanged"))
        except ChangeRefused as error:
            if not operation.begun:  # nothing has changed yet but the state, which the caller does not write then
                raise
            raise EndNotWritten(*(_after_change(each, command) for each in error.diagnostics)) from error


def _end_after(error: BaseException, operation: Operation) -> None:
    """Write the end of an operation that *error* ended; that error matters more than a log that cannot be written."""
    outcome = next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))
    text = (
        "; ".join(map(str, error.diagnostics)) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    )
    try:
        operation.end(outcome, text)
    except ChangeRefused as unwritten:
        error.add_note("; ".join(map(str, unwritten.diagnostics)))


def _after_change(diagnostic: Diagnostic, command: str) -> Diagnostic:
    note = f"{command} is done; only the entry about its end is missing, and the entry before the change stands"
    return replace(diagnostic, note=note)

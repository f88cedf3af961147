"""The base class of errors that a user can correct."""

from typing import ClassVar


class WorkloadError(Exception):
    """An error that a user can correct, printed without a traceback.

    The message has, in this order: the place, the value, the expectation, and the fix.
    """

    exit_status: ClassVar[int] = 2
    """Exit status of the command: 1 differs, 2 bad input or refused, 3 unknown, 4 a step failed."""

    def __init__(self, where: str, got: str, want: str, fix: str) -> None:
        self.where, self.got, self.want, self.fix = where, got, want, fix
        super().__init__(f"{where}: {got}; {want}. {fix}.")

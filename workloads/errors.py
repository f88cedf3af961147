"""The one root of everything a workload says to a person who can mend it."""

from typing import ClassVar


class WorkloadError(Exception):
    """Something a person can mend, said without a traceback.

    The message answers, in this order: where, what was found, what would do, the way out.
    """

    exit_status: ClassVar[int] = 2
    """As rackwright has it: 1 differs, 2 what was given is wrong or refused, 3 unknown, 4 a step failed."""

    def __init__(self, where: str, got: str, want: str, fix: str) -> None:
        self.where, self.got, self.want, self.fix = where, got, want, fix
        super().__init__(f"{where}: {got}; {want}. {fix}.")

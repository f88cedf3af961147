"""Limits of processor time and memory for computations on data of another account."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from workloads.errors import Diagnostic, UserError

SECONDS = 900
BYTES = 8 << 30


@contextmanager
def resource_limits(seconds: int = SECONDS, size: int = BYTES) -> Iterator[None]:
    """Limit the body to *seconds* of processor time, and the process to *size* bytes of its own memory.

    The main thread alone may call it.

    Raises:
        UserError: The body takes longer.
        MemoryError: It takes more memory.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        problem, expected = "the accountant has no result yet", f"one within {seconds} seconds of processor time"
        raise UserError(Diagnostic("privacy", problem, expected, "Look at the charges of the ledger"))

    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime)
    before = {each: resource.getrlimit(each) for each in (resource.RLIMIT_CPU, resource.RLIMIT_DATA)}
    handler = signal.signal(signal.SIGXCPU, stop)
    try:
        _lower(resource.RLIMIT_CPU, used + seconds)
        _lower(resource.RLIMIT_DATA, size)  # not the address space, of which libraries of GPUs reserve much
        yield
    finally:
        for kind, values in before.items():
            resource.setrlimit(kind, values)
        signal.signal(signal.SIGXCPU, handler)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    with suppress(ValueError, OSError):  # a lower one holds already, or the system has no such limit
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))

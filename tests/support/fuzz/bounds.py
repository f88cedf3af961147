"""Bounds in which a parser has to stay, whatever it reads."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Never

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

BATCH = 1000
CASE_SECONDS = 10
"""Processor seconds that a case may take; a usual case takes milliseconds."""


class Hangs(AssertionError):
    """A case that has not ended in time."""


@contextmanager
def limit_memory(memory_bytes: int) -> Iterator[None]:
    """Limit the process during the block to *memory_bytes* more than now; beyond that Python raises MemoryError."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Fail the block after *seconds* of this process's own work: a machine may be busy with others."""

    def late(number: int, frame: FrameType | None) -> Never:
        raise Hangs(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def cases(count: int, number: int, strategy: SearchStrategy[Any], judge: Callable[[Any], None]) -> None:
    """Call *judge* with *count* values of *strategy*; the same *number* makes the same values.

    Prints how many are judged after each batch: hypothesis keeps every value of a batch in memory.

    Raises:
        Hangs: a case did not end in time.
        Exception: whatever *judge* raised, for the smallest value that hypothesis came to.
    """
    for batch, first in enumerate(range(0, count, BATCH)):
        _batch(min(BATCH, count - first), number * 1_000_003 + batch, strategy, judge)
        print(f"cases {min(first + BATCH, count)}", flush=True)


def _batch(count: int, number: int, strategy: SearchStrategy[Any], judge: Callable[[Any], None]) -> None:
    judged = 0

    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), print_blob=False,
    )  # fmt: skip
    @given(strategy)
    def run(value: Any) -> None:
        nonlocal judged
        judged += 1
        with in_time(CASE_SECONDS):
            judge(value)

    run()
    assert judged >= count, f"hypothesis made {judged} values only, not {count}"

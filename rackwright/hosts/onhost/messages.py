"""The messages of the runner: events as lines of JSON on stdout, progress at intervals, and the failure of a step.

Standard library only, for Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

PROGRESS_SECONDS = 10


class Stop(Exception):
    """A step did not begin, or failed."""

    def __init__(self, reason: str, output: list[str] | None = None) -> None:
        super().__init__(reason)
        self.output = output or []


def emit(event: str, **values: Any) -> None:
    sys.stdout.write(json.dumps({**values, "event": event}) + "\n")
    sys.stdout.flush()


def every(seconds: float) -> Callable[[str], None]:
    """Return a function that reports progress, at most one text in *seconds*."""
    last = -seconds

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            emit("progress", text=text)

    return say


@contextlib.contextmanager
def report_duration(activity: str) -> Iterator[None]:
    """Report regularly how long *activity* has taken: a read of a drive may take minutes."""
    began, ended = time.monotonic(), threading.Event()

    def report() -> None:
        while not ended.wait(PROGRESS_SECONDS):
            emit("progress", text=f"{activity} for {time.monotonic() - began:.0f} s")

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()  # no progress may follow the answer

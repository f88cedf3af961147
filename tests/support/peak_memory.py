"""The memory that a long test takes on this computer, with all that it starts."""

import re
import threading
from pathlib import Path
from typing import Self

MEMINFO = Path("/proc/meminfo")
SECONDS = 2.0
"""Seconds between two looks."""


def available_bytes(text: str) -> int:
    """Return the bytes that *text*, of /proc/meminfo, says are available."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    assert found, text
    return int(found[1]) << 10


class PeakMemory:
    """The largest memory in use during a ``with`` block, in bytes, above the use at its beginning.

    All programs of the computer count, so that the figure is too large if something else runs beside the block.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._first = self._least = available_bytes(MEMINFO.read_text())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def __str__(self) -> str:
        return f"{self.bytes / 1e9:.1f} GB of memory at most"

    @property
    def bytes(self) -> int:
        return self._first - self._least

    def _watch(self) -> None:
        while not self._ended.wait(SECONDS):
            self._least = min(self._least, available_bytes(MEMINFO.read_text()))

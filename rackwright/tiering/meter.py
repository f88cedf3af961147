"""The progress of a transfer, with an estimate of the remaining time, and the bound of its bandwidth."""

import threading
import time
from collections.abc import Callable

from rackwright.progress import Progress
from rackwright.schema.units import format_size, format_time
from rackwright.tiering.onhost.transfer import Limiter

EVERY_SECONDS = 10.0
"""Seconds between two lines of progress."""


class Meter:
    """Counts the bytes of a transfer. Any thread may use it."""

    def __init__(
        self,
        progress: Progress,
        text: str,
        total: int,
        bytes_per_second: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            text: The transfer in lines of progress, such as ``uploaded``.
            total: Bytes of the whole transfer.
            bytes_per_second: Bound of the transfer; None for none.
        """
        self.bytes_per_second, self.limiter = bytes_per_second, Limiter(bytes_per_second)
        self._progress, self._text, self._total, self._clock = progress, text, total, clock
        self._began = self._printed = clock()
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Count *size* more bytes, and print a line if the last one is old."""
        with self._lock:
            self._done = max(self._done + size, 0)  # a part that is sent again counts once
            now = self._clock()
            if now - self._printed < EVERY_SECONDS:
                return
            self._printed = now
            line = self._line(now - self._began)
        self._progress(line)

    def _line(self, seconds: float) -> str:
        rate = self._done / seconds
        left = f", {format_time((self._total - self._done) / rate)} left" if rate and self._done < self._total else ""
        amounts = f"{format_size(self._done)} of {format_size(self._total)}"
        return f"{self._text} {amounts}, {format_size(int(rate))} per second{left}"

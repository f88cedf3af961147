"""Admission to a language model: a number of slots for running requests, and a bounded queue in front of them."""

import asyncio
import math
from typing import Protocol

from workloads.serving.batcher import QueueFull


class SlotTimeout(QueueFull):
    """No slot became free in time; the request has not begun."""

    problem = "no slot became free in time"


class AdmissionMetrics(Protocol):
    """The metrics that admission updates."""

    def set_waiting(self, requests: int) -> None: ...
    def set_writing(self, requests: int) -> None: ...


class Admission:
    """The slots of a language model, first come, first served."""

    def __init__(self, parallel: int, queue: int, metrics: AdmissionMetrics) -> None:
        """
        Args:
            parallel: The most requests that run at once.
            queue: The most requests that wait.
        """
        self._parallel, self._queue, self._metrics = parallel, queue, metrics
        self._slots = asyncio.Semaphore(parallel)
        self._waiting = self._running = 0
        self._seconds = 0.0
        """Average seconds for which recent requests had their slots."""

    def retry_after(self) -> int:
        """Return the seconds after which a further request probably gets a slot."""
        return max(1, math.ceil((self._waiting + 1) / self._parallel * self._seconds))

    async def acquire(self, deadline: float) -> None:
        """Wait for a slot.

        Args:
            deadline: The loop's time, in seconds, by which the slot is needed.

        Raises:
            QueueFull: the queue has no room, or there was no slot by *deadline*.
        """
        if self._slots.locked() and self._waiting >= self._queue:
            raise QueueFull(self.retry_after())
        self._add_waiting(1)
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise SlotTimeout(self.retry_after()) from None
        finally:
            self._add_waiting(-1)
        self._add_running(1)

    def release(self, seconds: float) -> None:
        """Give a slot back.

        Args:
            seconds: Seconds since it was acquired.
        """
        self._seconds = seconds if not self._seconds else 0.9 * self._seconds + 0.1 * seconds
        self._add_running(-1)
        self._slots.release()

    def _add_waiting(self, change: int) -> None:
        self._waiting += change
        self._metrics.set_waiting(self._waiting)

    def _add_running(self, change: int) -> None:
        self._running += change
        self._metrics.set_writing(self._running)

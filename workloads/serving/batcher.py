"""A queue of requests that the model computes in batches while it is busy, and at once while it is idle."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class QueueFull(Exception):
    """The queue has no room."""

    problem = "the queue is full"

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"{self.problem}; come back in {retry_after} s")
        self.retry_after = retry_after
        """Estimated seconds until the model has computed all waiting requests, at its recent speed."""


class DeadlineExceeded(Exception):
    """The deadline of a request passed before its answer was ready."""


class BatchMetrics(Protocol):
    """The metrics that a queue updates."""

    def set_waiting(self, requests: int) -> None: ...
    def record_batch(self, requests: int, rows: int, seconds: float) -> None: ...


@dataclass(eq=False, slots=True)
class _Job:
    arrays: Arrays
    rows: int
    shape: tuple[object, ...]
    """Names, types and row shapes of the inputs: two jobs with the same value can share a batch."""
    answer: asyncio.Future[Arrays]


class Batcher:
    """A queue in front of a function that computes one batch at a time, in its own thread.

    An idle function computes a request at once. While the function is busy, requests wait; the next batch then takes
    all waiting requests that fit. No request ever waits for others to arrive.
    """

    def __init__(
        self, compute: Callable[[Arrays], Arrays], batches: bool, max_batch: int, queue: int, metrics: BatchMetrics
    ) -> None:
        """
        Args:
            batches: Whether requests can share a batch, along the first dimension of every array.
            max_batch: The most rows of a batch; a single request may have more.
            queue: The most requests that wait.
        """
        self._compute, self._batches, self._max_batch, self._queue = compute, batches, max_batch, queue
        self._metrics = metrics
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "inference")
        self._row_seconds = 0.0
        """Average seconds per row of recent batches."""

    async def run(self) -> None:
        """Compute requests until cancelled; a batch that is under way then still finishes, without a reader."""
        try:
            while True:
                while not self._waiting:
                    await self._arrived.wait()
                await self._answer(self._next_batch())
        finally:
            self._thread.shutdown()

    async def submit(self, arrays: Arrays, rows: int, deadline: float) -> Arrays:
        """Return the function's answer to *arrays*.

        Args:
            rows: The size of the first dimension of every array.
            deadline: The loop's time, in seconds, after which no answer is wanted.

        Raises:
            QueueFull: the queue has no room.
            DeadlineExceeded: no answer by *deadline*; a request that has not started by then never starts.
            Exception: the function's own exception.
        """
        if len(self._waiting) >= self._queue:
            raise QueueFull(self._wait_seconds())
        shape = tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(arrays.items()))
        job = _Job(arrays, rows, shape, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._update()
        try:
            async with asyncio.timeout_at(deadline):
                return await job.answer
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            if job in self._waiting:
                self._waiting.remove(job)
                self._update()

    def _update(self) -> None:
        self._metrics.set_waiting(len(self._waiting))
        if self._waiting:
            self._arrived.set()
        else:
            self._arrived.clear()

    def _wait_seconds(self) -> int:
        return max(1, math.ceil(sum(job.rows for job in self._waiting) * self._row_seconds))

    def _next_batch(self) -> list[_Job]:
        """Remove the oldest waiting job from the queue, with all later ones that fit into its batch, in their order."""
        first = self._waiting.popleft()
        jobs, rows = [first], first.rows
        if self._batches:
            for job in [job for job in self._waiting if job.shape == first.shape]:
                if rows + job.rows > self._max_batch:
                    break
                self._waiting.remove(job)
                jobs.append(job)
                rows += job.rows
        self._update()
        return jobs

    async def _answer(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        began, rows = time.perf_counter(), sum(job.rows for job in jobs)
        try:
            outputs = await loop.run_in_executor(
                self._thread, self._compute, _concatenate([job.arrays for job in jobs])
            )
        except Exception as error:
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        seconds = time.perf_counter() - began
        self._row_seconds = seconds / rows if not self._row_seconds else 0.9 * self._row_seconds + 0.1 * seconds / rows
        self._metrics.record_batch(len(jobs), rows, seconds)
        first = 0
        for job in jobs:
            if not job.answer.done():  # else its deadline has passed
                whole = len(jobs) == 1
                job.answer.set_result(outputs if whole else _slice(outputs, first, first + job.rows))
            first += job.rows


def _concatenate(requests: list[Arrays]) -> Arrays:
    if len(requests) == 1:
        return requests[0]
    return {name: np.concatenate([arrays[name] for arrays in requests]) for name in requests[0]}


def _slice(arrays: Arrays, first: int, end: int) -> Arrays:
    return {name: array[first:end] for name, array in arrays.items()}

"""Requests in a queue, computed together while the model is busy, and at once while it is not."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Full(Exception):
    """The queue has no room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; come back in {retry_after} s")
        self.retry_after = retry_after
        """Seconds in which what waits now will have been computed, at the pace of late."""


class Late(Exception):
    """The deadline of a request has passed before its answer was there."""


class Watch(Protocol):
    """Who is told what the queue does."""

    def waiting(self, requests: int) -> None: ...
    def computed(self, requests: int, rows: int, seconds: float) -> None: ...


@dataclass(eq=False, slots=True)
class _Job:
    arrays: Arrays
    rows: int
    shape: tuple[object, ...]
    """What has to be equal for two jobs to be computed together."""
    answer: asyncio.Future[Arrays]


class Batcher:
    """A queue in front of a function that computes one batch at a time, in a thread of its own.

    A request that finds the function idle is computed at once. One that finds it busy waits, and goes with all those
    that wait by then: nothing ever waits for others to come.
    """

    def __init__(
        self, compute: Callable[[Arrays], Arrays], batches: bool, max_batch: int, queue: int, watch: Watch
    ) -> None:
        """
        Args:
            batches: Whether requests may be computed together, along the first dimension of every array.
            max_batch: Rows of a batch at most; a request alone may have more.
            queue: Requests that may wait.
        """
        self._compute, self._batches, self._max_batch, self._queue = compute, batches, max_batch, queue
        self._watch = watch
        self._waiting: deque[_Job] = deque()
        self._came = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "inference")
        self._row_seconds = 0.0
        """What a row took of late."""

    async def run(self) -> None:
        """Compute what comes, for ever. What is under way when this is cancelled is finished, for nobody."""
        try:
            while True:
                while not self._waiting:
                    await self._came.wait()
                await self._answer(self._take())
        finally:
            self._thread.shutdown()

    async def submit(self, arrays: Arrays, rows: int, deadline: float) -> Arrays:
        """Return the function's answer to *arrays*.

        Args:
            rows: Of each of them, in the first dimension.
            deadline: By the loop's clock, in seconds.

        Raises:
            Full: there is no room to wait.
            Late: there is no answer by *deadline*; if nobody has begun with it, nobody will.
            Exception: what the function raised.
        """
        if len(self._waiting) >= self._queue:
            raise Full(self._wait_seconds())
        shape = tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(arrays.items()))
        job = _Job(arrays, rows, shape, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._tell()
        try:
            async with asyncio.timeout_at(deadline):
                return await job.answer
        except TimeoutError:
            raise Late from None
        finally:
            if job in self._waiting:
                self._waiting.remove(job)
                self._tell()

    def _tell(self) -> None:
        self._watch.waiting(len(self._waiting))
        if self._waiting:
            self._came.set()
        else:
            self._came.clear()

    def _wait_seconds(self) -> int:
        return max(1, math.ceil(sum(job.rows for job in self._waiting) * self._row_seconds))

    def _take(self) -> list[_Job]:
        """Take the first that waits, and of the others in their order all that can go with it."""
        first = self._waiting.popleft()
        jobs, rows = [first], first.rows
        if self._batches:
            for job in [job for job in self._waiting if job.shape == first.shape]:
                if rows + job.rows > self._max_batch:
                    break
                self._waiting.remove(job)
                jobs.append(job)
                rows += job.rows
        self._tell()
        return jobs

    async def _answer(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        began, rows = loop.time(), sum(job.rows for job in jobs)
        try:
            outputs = await loop.run_in_executor(self._thread, self._compute, _joined([job.arrays for job in jobs]))
        except Exception as error:
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
            return
        seconds = loop.time() - began
        self._row_seconds = seconds / rows if not self._row_seconds else 0.9 * self._row_seconds + 0.1 * seconds / rows
        self._watch.computed(len(jobs), rows, seconds)
        first = 0
        for job in jobs:
            if not job.answer.done():  # else its deadline has passed
                whole = len(jobs) == 1
                job.answer.set_result(outputs if whole else _rows(outputs, first, first + job.rows))
            first += job.rows


def _joined(several: list[Arrays]) -> Arrays:
    if len(several) == 1:
        return several[0]
    return {name: np.concatenate([arrays[name] for arrays in several]) for name in several[0]}


def _rows(arrays: Arrays, first: int, end: int) -> Arrays:
    return {name: array[first:end] for name, array in arrays.items()}

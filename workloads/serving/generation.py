"""A queue in front of a model that generates several texts at once."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from workloads.serving.batcher import DeadlineExceeded, QueueFull
from workloads.serving.runtimes.runtime import Piece

Generate = Callable[[Mapping[str, Any], Callable[[Piece], bool]], None]


class GenerationMetrics(Protocol):
    """The metrics that a queue of texts updates."""

    def set_waiting(self, requests: int) -> None: ...
    def set_writing(self, requests: int) -> None: ...
    def record_first_token(self, seconds: float) -> None: ...
    def record_tokens(self, prompt_tokens: int, tokens: int) -> None: ...


class Answer:
    """A text that the model is generating; the model never waits for a slow reader."""

    def __init__(self, metrics: GenerationMetrics, arrival: float) -> None:
        self._metrics, self._arrival = metrics, arrival
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._abandoned = threading.Event()
        self._tokens = 0
        self.is_finished = False
        """Whether the text is complete, failed or abandoned."""
        self.first_token_seconds: float | None = None
        """Seconds from the request to its first piece; None before that."""

    def write(self, generate: Generate, request: Mapping[str, Any]) -> None:
        """Run *generate* with *request*; call this in a thread other than the loop's."""
        try:
            generate(request, self._on_piece)
        except Exception as error:
            self._post(error)

    def _on_piece(self, piece: Piece) -> bool:
        self._post(piece)
        return not self._abandoned.is_set()

    def _post(self, piece: Piece | Exception) -> None:
        self._loop.call_soon_threadsafe(self._receive, piece)

    def _receive(self, piece: Piece | Exception) -> None:
        if self.is_finished:  # there is no reader any more
            return
        if isinstance(piece, Exception):
            self.is_finished = True
            self._metrics.record_tokens(0, self._tokens)
        else:
            self._tokens += bool(piece.text)
            if self.first_token_seconds is None:
                self.first_token_seconds = self._loop.time() - self._arrival
                self._metrics.record_first_token(self.first_token_seconds)
            if piece.end:
                self.is_finished = True
                self._metrics.record_tokens(piece.end.prompt_tokens, piece.end.tokens)
        self._pieces.put_nowait(piece)

    def abandon(self) -> None:
        """Stop the text: its slot is free once the model notices, at the next token."""
        if not self.is_finished:
            self.is_finished = True
            self._metrics.record_tokens(0, self._tokens)
        self._abandoned.set()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while True:
            piece = await self._pieces.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if piece.end:
                return


class Generation:
    """A queue in front of a model that generates several texts at once, each in its own thread."""

    def __init__(self, generate: Generate, parallel: int, queue: int, metrics: GenerationMetrics) -> None:
        """
        Args:
            parallel: The most texts that are generated at once.
            queue: The most requests that wait.
        """
        self._generate, self._parallel, self._queue, self._metrics = generate, parallel, queue, metrics
        self._slots = asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, "generation")
        self._waiting = self._writing = 0
        self._seconds = 0.0
        """Average seconds per text of recent texts."""

    async def run(self) -> None:
        """Run until cancelled, then wait for the texts that are being generated."""
        try:
            await asyncio.Event().wait()
        finally:
            self._threads.shutdown()

    async def submit(self, request: Mapping[str, Any], deadline: float) -> Answer:
        """Return the answer to *request* once it has a slot.

        Args:
            deadline: The loop's time, in seconds, by which a slot is needed.

        Raises:
            QueueFull: the queue has no room.
            DeadlineExceeded: no slot by *deadline*; the request then never starts.
        """
        loop = asyncio.get_running_loop()
        arrival = loop.time()
        if self._slots.locked() and self._waiting >= self._queue:
            raise QueueFull(max(1, math.ceil((self._waiting + 1) / self._parallel * self._seconds)))
        self._add_waiting(1)
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._add_waiting(-1)
        answer, began = Answer(self._metrics, arrival), loop.time()
        self._add_writing(1)
        future = loop.run_in_executor(self._threads, answer.write, self._generate, request)
        future.add_done_callback(lambda _: self._finish(loop.time() - began))
        return answer

    def _finish(self, seconds: float) -> None:
        self._seconds = seconds if not self._seconds else 0.9 * self._seconds + 0.1 * seconds
        self._add_writing(-1)
        self._slots.release()

    def _add_waiting(self, change: int) -> None:
        self._waiting += change
        self._metrics.set_waiting(self._waiting)

    def _add_writing(self, change: int) -> None:
        self._writing += change
        self._metrics.set_writing(self._writing)

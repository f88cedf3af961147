"""Texts that are written: so many at once, the others wait for their turn, and whoever leaves makes room."""

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from workloads.serving.batcher import Full, Late
from workloads.serving.runtimes.runtime import Piece

Generate = Callable[[Mapping[str, Any], Callable[[Piece], bool]], None]


class Watch(Protocol):
    """Who is told what is waited for and written."""

    def waiting(self, requests: int) -> None: ...
    def writing(self, requests: int) -> None: ...
    def first_token(self, seconds: float) -> None: ...
    def wrote(self, prompt_tokens: int, tokens: int) -> None: ...


class Answer:
    """A text that is being written, whether or not anybody reads it: a slow reader holds up nobody."""

    def __init__(self, watch: Watch, came: float) -> None:
        self._watch, self._came = watch, came
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._left = threading.Event()
        self._written = 0
        self.ended = False
        """Nothing more will come."""
        self.first_token_seconds: float | None = None
        """From the request to its first piece, once that is there."""

    def write(self, generate: Generate, asked: Mapping[str, Any]) -> None:
        """Let *generate* write what is *asked*, in a thread that is not the loop's."""
        try:
            generate(asked, self._heard)
        except Exception as error:
            self._tell(error)

    def _heard(self, piece: Piece) -> bool:
        self._tell(piece)
        return not self._left.is_set()

    def _tell(self, what: Piece | Exception) -> None:
        self._loop.call_soon_threadsafe(self._take, what)

    def _take(self, what: Piece | Exception) -> None:
        if self.ended:  # nobody reads it
            return
        if isinstance(what, Exception):
            self.ended = True
            self._watch.wrote(0, self._written)
        else:
            self._written += bool(what.text)
            if self.first_token_seconds is None:
                self.first_token_seconds = self._loop.time() - self._came
                self._watch.first_token(self.first_token_seconds)
            if what.end:
                self.ended = True
                self._watch.wrote(what.end.prompt_tokens, what.end.tokens)
        self._pieces.put_nowait(what)

    def leave(self) -> None:
        """Want no more of it: its place is free as soon as the model has noticed, at the next token."""
        if not self.ended:
            self.ended = True
            self._watch.wrote(0, self._written)
        self._left.set()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while True:
            piece = await self._pieces.get()
            if isinstance(piece, Exception):
                raise piece
            yield piece
            if piece.end:
                return


class Generation:
    """A queue in front of a model that writes several texts at once, each in a thread of its own."""

    def __init__(self, generate: Generate, parallel: int, queue: int, watch: Watch) -> None:
        """
        Args:
            parallel: Texts that are written at once.
            queue: Requests that may wait.
        """
        self._generate, self._parallel, self._queue, self._watch = generate, parallel, queue, watch
        self._turns = asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, "generation")
        self._waiting = self._writing = 0
        self._seconds = 0.0
        """What a text took of late."""

    async def run(self) -> None:
        """Be there until this is cancelled; what is being written then is waited for."""
        try:
            await asyncio.Event().wait()
        finally:
            self._threads.shutdown()

    async def submit(self, asked: Mapping[str, Any], deadline: float) -> Answer:
        """Return the answer to what is *asked* as soon as its turn has come.

        Args:
            deadline: By the loop's clock, in seconds.

        Raises:
            Full: there is no room to wait.
            Late: its turn has not come by *deadline*, and never will.
        """
        loop = asyncio.get_running_loop()
        came = loop.time()
        if self._turns.locked() and self._waiting >= self._queue:
            raise Full(max(1, math.ceil((self._waiting + 1) / self._parallel * self._seconds)))
        self._wait(1)
        try:
            async with asyncio.timeout_at(deadline):
                await self._turns.acquire()
        except TimeoutError:
            raise Late from None
        finally:
            self._wait(-1)
        answer, began = Answer(self._watch, came), loop.time()
        self._write(1)
        writing = loop.run_in_executor(self._threads, answer.write, self._generate, asked)
        writing.add_done_callback(lambda _: self._ended(loop.time() - began))
        return answer

    def _ended(self, seconds: float) -> None:
        self._seconds = seconds if not self._seconds else 0.9 * self._seconds + 0.1 * seconds
        self._write(-1)
        self._turns.release()

    def _wait(self, more: int) -> None:
        self._waiting += more
        self._watch.waiting(self._waiting)

    def _write(self, more: int) -> None:
        self._writing += more
        self._watch.writing(self._writing)

"""A queue in front of a model that generates several texts at once."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from workloads.serving.admission import Admission
from workloads.serving.runtimes.runtime import Piece, TextEnd
from workloads.serving.usage import Usage

Generate = Callable[[Mapping[str, Any], Callable[[Piece], bool]], None]


class Answer:
    """A text that the model is generating; the model never waits for a slow reader."""

    def __init__(self, arrival: float, usage: Usage) -> None:
        """
        Args:
            arrival: The time of the request by `time.perf_counter`, in seconds. uvloop's own time has milliseconds.
            usage: The tokens of the request: its prompt once the model has it, its text once the model has ended.
        """
        self._arrival, self._usage = arrival, usage
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._abandoned = threading.Event()
        self.tokens = 0
        """Pieces with text so far, also of an abandoned text; a piece is a token."""
        self.prompt_tokens: int | None = None
        """Tokens of the prompt; None before the model has begun with it."""
        self._end: TextEnd | None = None
        self.is_finished = False
        """Whether the text is complete, failed or abandoned."""
        self.first_token_seconds: float | None = None
        """Seconds from the request to its first piece; None before that."""
        self.abandoned_at: float | None = None
        """The monotonic time when the text was abandoned; None before that."""

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
        if isinstance(piece, Piece):
            if piece.prompt_tokens is not None:
                self._set_prompt_tokens(piece.prompt_tokens)
                return
            self.tokens += bool(piece.text or piece.calls or piece.thought)
            if piece.end:
                self._end = piece.end
                self._usage.raise_to(piece.end.prompt_tokens, piece.end.tokens)
        if self.is_finished:  # there is no reader any more
            return
        if isinstance(piece, Exception):
            self.is_finished = True
        else:
            if self.first_token_seconds is None:
                self.first_token_seconds = time.perf_counter() - self._arrival
            self.is_finished = piece.end is not None
        self._pieces.put_nowait(piece)

    def _set_prompt_tokens(self, prompt_tokens: int) -> None:
        self.prompt_tokens = prompt_tokens
        self._usage.raise_to(prompt_tokens)

    def pay(self) -> None:
        """Pay for the tokens of the text, once the model works on it no more."""
        if self._end is None:  # else the model has counted them itself
            self._usage.raise_to(self.prompt_tokens, self.tokens)

    def abandon(self) -> None:
        """Stop the text: its slot is free once the model notices, at the next token."""
        self.is_finished = True
        self._abandoned.set()
        if self.abandoned_at is None:
            self.abandoned_at = time.monotonic()

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

    def __init__(self, generate: Generate, parallel: int, admission: Admission) -> None:
        """
        Args:
            parallel: The most texts that are generated at once, as *admission* has them.
        """
        self._generate, self._admission = generate, admission
        self._threads = ThreadPoolExecutor(parallel, "generation")
        self._running: set[Answer] = set()
        """Texts that have a slot, abandoned ones among them."""

    def is_shared(self) -> bool:
        """Return whether several texts have a slot: each may delay the others."""
        return len(self._running) > 1

    def is_stuck(self, seconds: float) -> bool:
        """Return whether the model has not ended a text within *seconds* after it was abandoned."""
        now = time.monotonic()
        return any(each.abandoned_at is not None and now - each.abandoned_at > seconds for each in self._running)

    async def run(self) -> None:
        """Run until cancelled, then wait for the texts that are being generated."""
        try:
            await asyncio.Event().wait()
        finally:
            self._threads.shutdown()

    async def submit(self, request: Mapping[str, Any], deadline: float, usage: Usage) -> Answer:
        """Return the answer to *request* once it has a slot.

        Args:
            deadline: The loop's time, in seconds, by which a slot is needed.
            usage: The tokens of the request, also those that the model writes after the client has left.

        Raises:
            QueueFull: the queue has no room, or there was no slot by *deadline*; the request then never starts.
        """
        loop = asyncio.get_running_loop()
        answer = Answer(time.perf_counter(), usage)
        await self._admission.acquire(deadline)
        began = time.perf_counter()
        future = loop.run_in_executor(self._threads, answer.write, self._generate, request)
        self._running.add(answer)

        def release(_: object) -> None:
            answer.pay()
            self._running.discard(answer)
            self._admission.release(time.perf_counter() - began)

        future.add_done_callback(release)
        return answer

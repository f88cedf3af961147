"""The events of a streamed text in OpenAI's protocol, as libraries write them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, get_args

from workloads.serving.runtimes.runtime import InvalidPrompt, Piece, Reason, RuntimeFailure, TextEnd


class EventReader:
    """A reader of events that passes each piece of text to a callback."""

    def __init__(self, on_piece: Callable[[Piece], bool], failure: Callable[[Mapping[str, Any]], Exception]) -> None:
        """
        Args:
            failure: The function that turns an error event into an exception.
        """
        self._on_piece, self._failure = on_piece, failure
        self._reason: Reason | None = None
        self._logprobs: tuple[Mapping[str, Any], ...] = ()
        self.is_finished = False
        """Whether the last piece has been passed on."""

    def feed(self, event: Mapping[str, Any]) -> bool:
        """Pass the text of *event* on, and return whether the callback wants more.

        Raises:
            Exception: the event is an error.
        """
        if error := event.get("error"):
            raise self._failure(error)
        text, thought, logprobs = "", "", self._logprobs
        calls: tuple[Mapping[str, Any], ...] = ()
        for choice in event["choices"]:
            text = choice.get("text") or choice.get("delta", {}).get("content") or ""
            thought += choice.get("delta", {}).get("reasoning_content") or ""
            calls += tuple(choice.get("delta", {}).get("tool_calls") or ())
            logprobs += tuple((choice.get("logprobs") or {}).get("content") or ())
            self._reason = choice["finish_reason"] or self._reason
        # a token that is no text yet belongs to the next piece
        self._logprobs = () if text else logprobs
        if usage := event.get("usage"):
            return self._end(Piece(text, logprobs=logprobs, calls=calls, thought=thought), usage)
        if progress := event.get("prompt_progress"):
            return self._on_piece(Piece("", prompt_tokens=progress["total"]))
        piece = Piece(text, logprobs=logprobs, calls=calls, thought=thought)
        return self._on_piece(piece) if text or calls or thought else True

    def _end(self, last: Piece, usage: Mapping[str, Any]) -> bool:
        if self._reason is None or self._reason not in get_args(Reason):  # vLLM has more, such as abort
            raise RuntimeFailure(f"the text ended by {self._reason}")
        if not usage["prompt_tokens"]:  # llama.cpp turns messages that a template refuses into an empty prompt
            raise InvalidPrompt("the model's template makes no prompt of it")
        self.is_finished = True
        end = TextEnd(self._reason, usage["prompt_tokens"], usage["completion_tokens"])
        return self._on_piece(replace(last, end=end))

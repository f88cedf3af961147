"""The events of a text that is streamed by OpenAI's protocol, as libraries write it."""

from collections.abc import Callable, Mapping
from typing import Any, get_args

from workloads.serving.runtimes.runtime import End, Piece, Reason, Unfit


class Events:
    """Tells the pieces that events are to whoever hears them."""

    def __init__(self, heard: Callable[[Piece], bool], failure: Callable[[Mapping[str, Any]], Exception]) -> None:
        """
        Args:
            failure: What an error in their place is.
        """
        self._heard, self._failure = heard, failure
        self._reason: Reason | None = None
        self.ended = False
        """Its last piece was told."""

    def tell(self, event: Mapping[str, Any]) -> bool:
        """Tell what *event* says, and return whether more is wanted.

        Raises:
            Exception: it says that the text failed.
        """
        if error := event.get("error"):
            raise self._failure(error)
        text = ""
        for choice in event["choices"]:
            text = choice.get("text") or choice.get("delta", {}).get("content") or ""
            self._reason = choice["finish_reason"] or self._reason
        if usage := event.get("usage"):
            return self._end(text, usage)
        return self._heard(Piece(text)) if text else True

    def _end(self, text: str, usage: Mapping[str, Any]) -> bool:
        if self._reason is None or self._reason not in get_args(Reason):  # vLLM has more, such as abort
            raise RuntimeError(f"the text ended by {self._reason}")
        if not usage["prompt_tokens"]:  # llama.cpp takes what a template refuses for nothing at all
            raise Unfit("the model's template makes no prompt of it")
        self.ended = True
        return self._heard(Piece(text, End(self._reason, usage["prompt_tokens"], usage["completion_tokens"])))

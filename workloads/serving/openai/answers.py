"""Answers to requests for completions, whole or as a stream of events."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import to_json

from workloads.serving.model import Model
from workloads.serving.openai.requests import ChatRequest, CompletionRequest
from workloads.serving.openai.tools import CALL_ID, join_calls, new_call_id, read_call
from workloads.serving.runtimes.runtime import Piece, TextEnd

DONE = b"data: [DONE]\n\n"


class AnswerFormat:
    """The format of one answer, whole or as a stream."""

    def __init__(self, request: CompletionRequest, model: Model) -> None:
        self._chat = isinstance(request, ChatRequest)
        self._alternatives = request.alternatives
        self._is_call = isinstance(request, ChatRequest) and bool(request.forced_tools)
        """Whether the text is a call, in the form of `call_schema`."""
        self._call = ""
        """The text of the call so far."""
        self._call_ids: dict[int, str] = {}
        """The ids of the calls so far, by their index."""
        self._offset = 0
        """Characters of the text so far, for the log-probabilities of a text."""
        self._with_usage = request.stream_options is not None and request.stream_options.include_usage
        self._common = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.version,
        }

    def whole(self, pieces: Iterable[Piece]) -> bytes:
        """Return the whole answer that consists of *pieces*."""
        pieces = [*map(self._as_call, pieces)]
        end, text = pieces[-1].end, "".join(piece.text for piece in pieces)
        assert end is not None
        calls = join_calls([part for piece in pieces for part in piece.calls])
        # a message with calls alone has no text
        message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or self._is_call else "")}
        message |= {"tool_calls": calls} if calls else {}
        if thought := "".join(piece.thought for piece in pieces):
            message["reasoning_content"] = thought
        content = {"message": message} if self._chat else {"text": text}
        logprobs = self._logprobs([token for piece in pieces for token in piece.logprobs])
        choice = {"index": 0, **content, "logprobs": logprobs, "finish_reason": end.reason}
        kind = "chat.completion" if self._chat else "text_completion"
        return to_json({**self._common, "object": kind, "choices": [choice], "usage": _usage(end)})

    def opening(self) -> bytes:
        """Return the event before the first piece: in a chat, the role of the speaker."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self._chat else b""

    def events(self, piece: Piece) -> bytes:
        """Return the events of *piece*; `DONE` follows the last one."""
        events, piece = b"", self._as_call(piece)
        if piece.calls:
            events += self._event({"delta": {"tool_calls": piece.calls}})
        if piece.thought:
            events += self._event({"delta": {"reasoning_content": piece.thought}})
        if piece.text:
            content = {"delta": {"content": piece.text}} if self._chat else {"text": piece.text}
            events += self._event(content, logprobs=self._logprobs(piece.logprobs))
        if piece.end:
            events += self._event({"delta": {}} if self._chat else {"text": ""}, piece.end.reason)
            if self._with_usage:
                events += self._line([], {"usage": _usage(piece.end)})
        return events

    def _as_call(self, piece: Piece) -> Piece:
        """Return *piece*; of a text that is a call, the call with its last piece, and none if the text was cut."""
        if not self._is_call:
            return replace(piece, calls=tuple(map(self._with_id, piece.calls))) if piece.calls else piece
        self._call += piece.text
        if piece.end is None or piece.end.reason != "stop":
            return replace(piece, text="")
        if (call := read_call(self._call)) is None:  # a stop sequence of the request was in it
            return replace(piece, text="")
        return replace(piece, text="", calls=(call,), end=replace(piece.end, reason="tool_calls"))

    def _with_id(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *part* of a call, with an id that every chat template takes in place of another one."""
        if not (id := part.get("id")):
            return part
        known = self._call_ids.setdefault(part["index"], id if CALL_ID.fullmatch(id) else new_call_id())
        return {**part, "id": known}

    def _event(
        self, content: dict[str, Any], reason: str | None = None, logprobs: dict[str, Any] | None = None
    ) -> bytes:
        usage = {"usage": None} if self._with_usage else {}
        return self._line([{"index": 0, **content, "logprobs": logprobs, "finish_reason": reason}], usage)

    def _logprobs(self, tokens: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
        """Return the log-probabilities of *tokens* in the form of a chat or of a text; None without any."""
        if not tokens:
            return None
        if self._chat:
            shown = [
                {
                    **_format_token(token),
                    "top_logprobs": [*map(_format_token, token["top_logprobs"][: self._alternatives])],
                }
                for token in tokens
            ]
            return {"content": shown, "refusal": None}
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token["token"])
        return {
            "tokens": [token["token"] for token in tokens],
            "token_logprobs": [token["logprob"] for token in tokens],
            "top_logprobs": [
                {each["token"]: each["logprob"] for each in token["top_logprobs"][: self._alternatives]}
                for token in tokens
            ],
            "text_offset": offsets,
        }

    def _line(self, choices: list[Any], more: dict[str, Any]) -> bytes:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        return format_event({**self._common, "object": kind, "choices": choices, **more})


def _format_token(token: Mapping[str, Any]) -> dict[str, Any]:
    return {name: token[name] for name in ("token", "logprob", "bytes")}


def format_event(data: object) -> bytes:
    """Return *data* as one server-sent event."""
    return b"data: " + to_json(data) + b"\n\n"


def _usage(end: TextEnd) -> dict[str, int] | None:
    """Return the tokens of a text; None if the text was cut before its prompt was counted."""
    if end.prompt_tokens is None:
        return None
    whole = end.prompt_tokens + end.tokens
    return {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.tokens, "total_tokens": whole}

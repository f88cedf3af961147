"""Requests and answers of OpenAI's protocol for language models: chats, and texts that are gone on with.

Source: OpenAI's API reference, of which what a model of text alone can do is here.
"""

import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_json

from workloads.serving.answers import Refused
from workloads.serving.model import Model
from workloads.serving.offload import check_json
from workloads.serving.runtimes.runtime import End, Piece

DONE = b"data: [DONE]\n\n"
_SEEDS = 2**32 - 1
"""llama.cpp takes 32 bits, of which the last value means any."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _parts(value: object) -> object:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


Texts = Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_listed)]
"""One may stand without its list."""
Tokens = Annotated[int, Field(gt=0, lt=2**31)]


class Known(BaseModel):
    """What we do not know is refused: who asks for tools should not get an answer without. Null is as if not said."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _said(cls, values: Any) -> Any:
        said = isinstance(values, dict)
        return {key: value for key, value in values.items() if value is not None} if said else values


class Part(Known):
    type: Literal["text"]
    text: str


class Message(Known):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[Part], Field(min_length=1), BeforeValidator(_parts)]


class StreamOptions(Known):
    include_usage: bool = False


class Request(Known):
    """What both have."""

    route: ClassVar[str]
    model: str
    max_tokens: Tokens | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    stop: Texts = Field(default=[], max_length=4)
    seed: int | None = Field(default=None, ge=0, lt=_SEEDS)
    n: Literal[1] = 1
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    """Whom the client asks for; nothing is done with it."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.stream_options and not self.stream:
            raise ValueError("stream_options without stream: true")
        return self

    def prompt_field(self) -> str:
        raise NotImplementedError

    def asked(self) -> dict[str, Any]:
        """Return what a runtime is asked."""
        names = ("max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty", "stop", "seed")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [])}


class ChatRequest(Request):
    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Tokens | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if self.max_tokens and self.max_completion_tokens:
            raise ValueError("max_tokens is the old name of max_completion_tokens; one of them is enough")
        return self

    def prompt_field(self) -> str:
        return "messages"

    def asked(self) -> dict[str, Any]:
        limit = {"max_tokens": self.max_completion_tokens} if self.max_completion_tokens else {}
        messages = [
            # templates of models know no developer
            {"role": "system" if each.role == "developer" else each.role,
             "content": "".join(part.text for part in each.content)}
            for each in self.messages
        ]  # fmt: skip
        return {**super().asked(), **limit, "messages": messages}


class TextRequest(Request):
    prompt: Texts = Field(min_length=1, max_length=1)

    def prompt_field(self) -> str:
        return "prompt"

    def asked(self) -> dict[str, Any]:
        return {**super().asked(), "prompt": self.prompt[0]}


R = TypeVar("R", bound=Request)


def read(body: bytes, kind: type[R], model: Model) -> R:
    """Return what *body* asks of *model*.

    Raises:
        Refused: 400, or 404 for another model.
    """
    if too_much := check_json(body):
        raise Refused(400, f"the body: {too_much}")
    try:
        request = kind.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)[:8]
        param = str(problems[0]["loc"][0])[:200] if problems[0]["loc"] else None
        raise Refused(400, "; ".join(_told(problem, kind) for problem in problems), param=param) from None
    known(request.model, model)
    return request


def known(name: str, model: Model) -> None:
    """Return if *name* is that of *model*.

    Raises:
        Refused: 404.
    """
    if name != model.name:
        reason = f"no model {name[:64]} here; this is {model.name}"
        raise Refused(404, reason, param="model", code="model_not_found")


def _told(problem: Any, kind: type[Request]) -> str:
    where = ".".join(map(str, problem["loc"]))[:200] or "the body"
    if problem["type"] == "extra_forbidden":
        known = f"; known are {', '.join(kind.model_fields)}" if len(problem["loc"]) == 1 else ""
        return f"{where}: this server does not know it{known}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


class Form:
    """How one answer is written, whole or as a stream."""

    def __init__(self, request: Request, model: Model) -> None:
        self._chat = isinstance(request, ChatRequest)
        self._counts = request.stream_options is not None and request.stream_options.include_usage
        self._common = {
            "id": f"{'chatcmpl' if self._chat else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": model.version,
        }

    def whole(self, pieces: Iterable[Piece]) -> bytes:
        """Return the answer that *pieces* are."""
        pieces = list(pieces)
        end, text = pieces[-1].end, "".join(piece.text for piece in pieces)
        assert end is not None
        said = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": end.reason}
        told = "chat.completion" if self._chat else "text_completion"
        return to_json({**self._common, "object": told, "choices": [choice], "usage": _usage(end)})

    def opening(self) -> bytes:
        """Return the event before the first piece: in a chat, who speaks."""
        return self._event({"delta": {"role": "assistant", "content": ""}}) if self._chat else b""

    def events(self, piece: Piece) -> bytes:
        """Return the events that *piece* is; after the last one `DONE` follows."""
        told = b""
        if piece.text:
            told += self._event({"delta": {"content": piece.text}} if self._chat else {"text": piece.text})
        if piece.end:
            told += self._event({"delta": {}} if self._chat else {"text": ""}, piece.end.reason)
            if self._counts:
                told += self._line([], {"usage": _usage(piece.end)})
        return told

    def _event(self, said: dict[str, Any], reason: str | None = None) -> bytes:
        usage = {"usage": None} if self._counts else {}
        return self._line([{"index": 0, **said, "logprobs": None, "finish_reason": reason}], usage)

    def _line(self, choices: list[Any], more: dict[str, Any]) -> bytes:
        told = "chat.completion.chunk" if self._chat else "text_completion"
        return event({**self._common, "object": told, "choices": choices, **more})


def event(told: object) -> bytes:
    """Return *told* as an event of a stream."""
    return b"data: " + to_json(told) + b"\n\n"


def _usage(end: End) -> dict[str, int]:
    whole = end.prompt_tokens + end.tokens
    return {"prompt_tokens": end.prompt_tokens, "completion_tokens": end.tokens, "total_tokens": whole}

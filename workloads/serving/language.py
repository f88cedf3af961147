"""The routes of a language model, in OpenAI's protocol."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import ExitStack
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from workloads.serving.answers import HttpError, as_text_errors, openai_error
from workloads.serving.batcher import DeadlineExceeded
from workloads.serving.body import read_body
from workloads.serving.document import describe_body
from workloads.serving.generation import Answer, Generation
from workloads.serving.model import Model
from workloads.serving.offload import offload
from workloads.serving.openai.answers import DONE, AnswerFormat, format_event
from workloads.serving.openai.body import check_model, read
from workloads.serving.openai.requests import ChatRequest, TextRequest
from workloads.serving.runtimes.runtime import InvalidPrompt, Piece, TextEnd, UnreadableOutput
from workloads.serving.settings import ServingSettings
from workloads.serving.streaming import NO_BUFFERING, or_disconnect

T = TypeVar("T")
SCHEMA_ERROR = re.compile(r"schema|grammar")
"""Words of llama.cpp's reasons that are about the schema of an answer."""
BODY_MODELS = (ChatRequest, TextRequest)
"""The bodies that a server's OpenAPI document describes."""


ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is malformed, too long or too slow; the error names the fault."},
    401: {"description": "The API key is missing or unknown."},
    403: {"description": "The API key does not allow this request."},
    404: {"description": "The server has another model."},
    408: {"description": "The body did not come in time."},
    413: {"description": "The body is too large."},
    415: {"description": "The body has an unknown encoding."},
    429: {"description": "The queue is full, or the key has no quota left. Retry-After says when to try again."},
    503: {
        "description": "The bodies of other requests use all memory, or other texts delayed the first token. "
        "Retry-After says when to try again."
    },
}


def add_model_routes(app: FastAPI, model: Model) -> None:
    """Add the routes about *model* to *app*."""
    entry = {"id": model.name, "object": "model", "created": int(time.time()), "owned_by": "rackwright"}

    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [entry]})

    async def one(name: str) -> JSONResponse:
        check_model(name, model)
        return JSONResponse(entry)

    app.get("/v1/models", summary="The model", responses=ERROR_RESPONSES)(models)
    app.get("/v1/models/{name:path}", summary="The model, by name", responses=ERROR_RESPONSES)(one)


def add_routes(
    app: FastAPI, model: Model, settings: ServingSettings, generation: Generation, writes_tools: bool
) -> None:
    """Add the routes of *model*, which writes texts, to *app*.

    Args:
        writes_tools: Whether the chat template of the model writes tools into the prompt.
    """

    async def chat(request: Request) -> Response:
        return await _answer(request, ChatRequest, model, settings, generation, writes_tools)

    async def text(request: Request) -> Response:
        return await _answer(request, TextRequest, model, settings, generation, writes_tools)

    async def embeddings(request: Request) -> Response:
        problem = f"{model.name} writes texts; an embedding model is published with --embeddings"
        raise HttpError(404, problem, param="model", code="model_not_found")

    add_model_routes(app, model)
    app.router.add_route("/v1/embeddings", embeddings, ["POST"])
    stream_response = {"description": "The text; with `stream`, piece by piece.", "content": {"text/event-stream": {}}}
    responses = {200: stream_response, **ERROR_RESPONSES}
    for route, kind, endpoint, summary in (
        ("/v1/chat/completions", ChatRequest, chat, "Complete a chat"),
        ("/v1/completions", TextRequest, text, "Complete a text"),
    ):
        app.post(route, summary=summary, responses=responses, openapi_extra=describe_body(kind))(endpoint)


async def _answer(
    request: Request,
    kind: type[ChatRequest] | type[TextRequest],
    model: Model,
    settings: ServingSettings,
    generation: Generation,
    writes_tools: bool,
) -> Response:
    async with read_body(request, settings) as content:
        began = asyncio.get_running_loop().time()
        with as_text_errors(settings.deadline_seconds):
            parsed = await offload(len(content), settings.deadline_seconds, read, content, kind, model)
    del content
    if isinstance(parsed, ChatRequest) and parsed.uses_tools and not writes_tools:
        reason = f"tools: the chat template of {model.name} writes no tools and no calls; leave them out"
        raise HttpError(400, reason, param="tools")
    deadline = began + settings.deadline_seconds
    limit = began + (settings.stream_seconds if parsed.stream else settings.answer_seconds)
    form, log_fields = AnswerFormat(parsed, model), request.state.log_fields
    with as_text_errors(settings.deadline_seconds, generation.is_shared), ExitStack() as cleanup:
        answer = await or_disconnect(
            request, generation.submit(parsed.runtime_request(), deadline, request.state.usage)
        )
        cleanup.callback(answer.abandon)
        cleanup.callback(_log_answer, answer, log_fields)
        pieces = aiter(answer)
        try:
            first = await or_disconnect(request, _before(deadline, anext(pieces)))
        except InvalidPrompt as error:
            field = parsed.schema_field if SCHEMA_ERROR.search(str(error)) else None
            field = field or parsed.prompt_field()
            raise HttpError(400, f"{field}: {error}", param=field, code=error.code) from None
        except UnreadableOutput as error:  # no 5xx: OpenAI's clients would repeat it, and the server has not failed
            reason = f"{error}; send another seed, or other messages"
            raise HttpError(400, reason, code="unreadable_output") from None
        others = _until(limit, pieces, answer)
        if parsed.stream:
            return EventStream(_events(form, first, others, log_fields), cleanup.pop_all())
        whole = await or_disconnect(request, _collect(first, others, log_fields))
        return Response(form.whole(whole), media_type="application/json")


class EventStream(StreamingResponse):
    """A stream of events; the answer stops when its client disconnects."""

    def __init__(self, events: AsyncIterator[bytes], cleanup: ExitStack) -> None:
        super().__init__(events, headers=NO_BUFFERING, media_type="text/event-stream")
        self._cleanup = cleanup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._cleanup:
            await super().__call__(scope, receive, send)


async def _until(limit: float, pieces: AsyncIterator[Piece], answer: Answer) -> AsyncIterator[Piece]:
    """Yield *pieces*; at the loop's time *limit* the text ends there, as one that has no more room."""
    while True:
        try:
            async with asyncio.timeout_at(limit):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            answer.abandon()
            yield Piece("", TextEnd("length", answer.prompt_tokens, answer.tokens))
            return
        yield piece


async def _events(
    form: AnswerFormat, first: Piece, others: AsyncIterator[Piece], log_fields: dict[str, object]
) -> AsyncIterator[bytes]:
    yield form.opening() + form.events(first)
    _log_end(first, log_fields)
    try:
        async for piece in others:
            _log_end(piece, log_fields)
            yield form.events(piece)
    except Exception as error:
        log_fields["reason"] = "failed"
        reason = f"the server failed with {type(error).__name__}; see its log"
        yield format_event(openai_error(HttpError(500, reason)))
        raise
    yield DONE


async def _collect(first: Piece, others: AsyncIterator[Piece], log_fields: dict[str, object]) -> list[Piece]:
    collected = [first, *[piece async for piece in others]]
    _log_end(collected[-1], log_fields)
    return collected


def _log_end(piece: Piece, log_fields: dict[str, object]) -> None:
    """Add the end of the text to the log line, if *piece* is the last one."""
    if piece.end:
        prompt = {} if piece.end.prompt_tokens is None else {"prompt_tokens": piece.end.prompt_tokens}
        log_fields |= {**prompt, "tokens": piece.end.tokens, "finish": piece.end.reason}


def _log_answer(answer: Answer, log_fields: dict[str, object]) -> None:
    if answer.first_token_seconds is not None:
        log_fields["first_token_seconds"] = round(answer.first_token_seconds, 6)
    if not answer.is_finished:
        prompt = {} if answer.prompt_tokens is None else {"prompt_tokens": answer.prompt_tokens}
        log_fields |= {**prompt, "tokens": answer.tokens, "finish": "left"}


async def _before(deadline: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise DeadlineExceeded from None

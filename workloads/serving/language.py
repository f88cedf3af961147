"""The routes of a language model, in OpenAI's protocol."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from workloads.serving import completions
from workloads.serving.answers import HttpError, as_http_errors, openai_error
from workloads.serving.batcher import DeadlineExceeded
from workloads.serving.body import read_body
from workloads.serving.completions import AnswerFormat, ChatRequest, TextRequest
from workloads.serving.document import describe_body
from workloads.serving.generation import Answer, Generation
from workloads.serving.model import Model
from workloads.serving.offload import offload
from workloads.serving.runtimes.runtime import InvalidPrompt, Piece
from workloads.serving.settings import ServingSettings

T = TypeVar("T")
BODY_MODELS = (ChatRequest, TextRequest)
"""The bodies that a server's OpenAPI document describes."""
NO_BUFFERING = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers that keep proxies from buffering a stream; the second is nginx's."""


def add_routes(app: FastAPI, model: Model, settings: ServingSettings, generation: Generation) -> None:
    """Add the routes of *model* to *app*."""
    entry = {"id": model.name, "object": "model", "created": int(time.time()), "owned_by": "rackwright"}

    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [entry]})

    async def one(name: str) -> JSONResponse:
        completions.check_model(name, model)
        return JSONResponse(entry)

    async def chat(request: Request) -> Response:
        return await _answer(request, ChatRequest, model, settings, generation)

    async def text(request: Request) -> Response:
        return await _answer(request, TextRequest, model, settings, generation)

    app.get("/v1/models", summary="The model", responses=_error_responses(401, 403))(models)
    app.get("/v1/models/{name}", summary="The model, by name", responses=_error_responses(401, 403, 404))(one)
    stream_response = {"description": "The text; with `stream`, piece by piece.", "content": {"text/event-stream": {}}}
    responses = {200: stream_response, **_error_responses(400, 401, 403, 404, 408, 413, 429, 503, 504)}
    for route, kind, endpoint, summary in (
        ("/v1/chat/completions", ChatRequest, chat, "Complete a chat"),
        ("/v1/completions", TextRequest, text, "Complete a text"),
    ):
        app.post(route, summary=summary, responses=responses, openapi_extra=describe_body(kind))(endpoint)


def _error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    descriptions = {
        400: "The request is malformed or too long; the error names the fault.",
        401: "The API key is missing or unknown.",
        403: "The API key does not allow this request.",
        404: "The server has another model.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        429: "The queue is full. Retry-After says when to try again.",
        503: "The bodies of other requests use all memory. Retry-After says when to try again.",
        504: "The deadline of the request has passed.",
    }
    return {status: {"description": descriptions[status]} for status in statuses}


async def _answer(
    request: Request,
    kind: type[ChatRequest] | type[TextRequest],
    model: Model,
    settings: ServingSettings,
    generation: Generation,
) -> Response:
    async with read_body(request, settings) as content:
        deadline = asyncio.get_running_loop().time() + settings.deadline_seconds
        with as_http_errors(settings.deadline_seconds):
            parsed = await offload(len(content), settings.deadline_seconds, completions.read, content, kind, model)
    del content
    form, log_fields = AnswerFormat(parsed, model), request.state.log_fields
    with as_http_errors(settings.deadline_seconds), ExitStack() as cleanup:
        answer = await _or_disconnect(request, generation.submit(parsed.runtime_request(), deadline))
        cleanup.callback(answer.abandon)
        cleanup.callback(_log_first_token, answer, log_fields)
        pieces = aiter(answer)
        try:
            if parsed.stream:
                first = await _or_disconnect(request, _before(deadline, anext(pieces)))
                return _Stream(_events(form, first, pieces, log_fields), cleanup.pop_all())
            whole = await _or_disconnect(request, _before(deadline, _collect(pieces, log_fields)))
        except InvalidPrompt as error:
            field = parsed.prompt_field()
            raise HttpError(400, f"{field}: {error}", param=field, code=error.code) from None
        return Response(form.whole(whole), media_type="application/json")


class _Stream(StreamingResponse):
    """A stream of events; the answer stops when its client disconnects."""

    def __init__(self, events: AsyncIterator[bytes], cleanup: ExitStack) -> None:
        super().__init__(events, headers=NO_BUFFERING, media_type="text/event-stream")
        self._cleanup = cleanup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._cleanup:
            await super().__call__(scope, receive, send)


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
        yield completions.format_event(openai_error(HttpError(500, reason)))
        raise
    yield completions.DONE


async def _collect(pieces: AsyncIterator[Piece], log_fields: dict[str, object]) -> list[Piece]:
    collected = [piece async for piece in pieces]
    _log_end(collected[-1], log_fields)

    return collected


def _log_end(piece: Piece, log_fields: dict[str, object]) -> None:
    """Add the end of the text to the log line, if *piece* is the last one."""
    if piece.end:
        log_fields |= {"prompt_tokens": piece.end.prompt_tokens, "tokens": piece.end.tokens, "finish": piece.end.reason}


def _log_first_token(answer: Answer, log_fields: dict[str, object]) -> None:
    if answer.first_token_seconds is not None:
        log_fields["first_token_seconds"] = round(answer.first_token_seconds, 6)
    if not answer.is_finished:
        log_fields["finish"] = "left"


async def _before(deadline: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise DeadlineExceeded from None


async def _or_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of *work*, unless the client disconnects first.

    Raises:
        ClientDisconnect: the client disconnected first.
    """
    task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

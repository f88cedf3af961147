"""The routes of a language model: OpenAI's protocol."""

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
from workloads.serving.answers import Refused, in_turn, openai_error
from workloads.serving.batcher import Late
from workloads.serving.body import body
from workloads.serving.completions import ChatRequest, Form, TextRequest
from workloads.serving.document import body_of
from workloads.serving.generation import Answer, Generation
from workloads.serving.model import Model
from workloads.serving.offload import offload
from workloads.serving.runtimes.runtime import Piece, Unfit
from workloads.serving.settings import Settings

T = TypeVar("T")
BODIES = (ChatRequest, TextRequest)
"""What the document of a server has to describe."""
AT_ONCE = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Nobody on the way keeps a stream until it has ended; the second is nginx's."""


def routes(app: FastAPI, model: Model, settings: Settings, generation: Generation) -> None:
    """Give *app* the routes by which *model* is asked."""
    entry = {"id": model.name, "object": "model", "created": int(time.time()), "owned_by": "rackwright"}

    async def models() -> JSONResponse:
        return JSONResponse({"object": "list", "data": [entry]})

    async def one(name: str) -> JSONResponse:
        completions.known(name, model)
        return JSONResponse(entry)

    async def chat(request: Request) -> Response:
        return await _answer(request, ChatRequest, model, settings, generation)

    async def text(request: Request) -> Response:
        return await _answer(request, TextRequest, model, settings, generation)

    app.get("/v1/models", summary="The model", responses=_refusals(401, 403))(models)
    app.get("/v1/models/{name}", summary="The same", responses=_refusals(401, 403, 404))(one)
    streamed = {"description": "The text; with `stream` piece by piece.", "content": {"text/event-stream": {}}}
    answered = {200: streamed, **_refusals(400, 401, 403, 404, 408, 413, 429, 503, 504)}
    for route, kind, called, summary in (
        ("/v1/chat/completions", ChatRequest, chat, "Go on with a chat"),
        ("/v1/completions", TextRequest, text, "Go on with a text"),
    ):
        app.post(route, summary=summary, responses=answered, openapi_extra=body_of(kind))(called)


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    described = {
        400: "Malformed, or too long; says what is.",
        401: "No key that is known.",
        403: "The key does not allow it.",
        404: "Another model.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        429: "The queue is full; Retry-After says for how long.",
        503: "The bodies of other requests take all memory; Retry-After says for how long.",
        504: "Its deadline has passed.",
    }
    return {status: {"description": described[status]} for status in statuses}


async def _answer(
    request: Request,
    kind: type[ChatRequest] | type[TextRequest],
    model: Model,
    settings: Settings,
    generation: Generation,
) -> Response:
    async with body(request, settings) as content:
        deadline = asyncio.get_running_loop().time() + settings.deadline_seconds
        with in_turn(settings.deadline_seconds):
            asked = await offload(len(content), settings.deadline_seconds, completions.read, content, kind, model)
    del content
    form, told = Form(asked, model), request.state.told
    with in_turn(settings.deadline_seconds), ExitStack() as leaving:
        answer = await _unless_gone(request, generation.submit(asked.asked(), deadline))
        leaving.callback(answer.leave)
        leaving.callback(_note, answer, told)
        pieces = aiter(answer)
        try:
            if asked.stream:
                first = await _unless_gone(request, _by(deadline, anext(pieces)))
                return _Stream(_events(form, first, pieces, told), leaving.pop_all())
            whole = await _unless_gone(request, _by(deadline, _all(pieces, told)))
        except Unfit as error:
            field = asked.prompt_field()
            raise Refused(400, f"{field}: {error}", param=field, code=error.code) from None
        return Response(form.whole(whole), media_type="application/json")


class _Stream(StreamingResponse):
    """Events, as they come; whoever stops reading them leaves the answer."""

    def __init__(self, events: AsyncIterator[bytes], leaving: ExitStack) -> None:
        super().__init__(events, headers=AT_ONCE, media_type="text/event-stream")
        self._leaving = leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._leaving:
            await super().__call__(scope, receive, send)


async def _events(
    form: Form, first: Piece, others: AsyncIterator[Piece], told: dict[str, object]
) -> AsyncIterator[bytes]:
    yield form.opening() + form.events(first)
    _count(first, told)
    try:
        async for piece in others:
            _count(piece, told)
            yield form.events(piece)
    except Exception as error:
        told["reason"] = "failed"
        reason = f"it failed here: {type(error).__name__}; the log has more"
        yield completions.event(openai_error(Refused(500, reason)))
        raise
    yield completions.DONE


async def _all(pieces: AsyncIterator[Piece], told: dict[str, object]) -> list[Piece]:
    whole = [piece async for piece in pieces]
    _count(whole[-1], told)
    return whole


def _count(piece: Piece, told: dict[str, object]) -> None:
    """Let the log say how it ended."""
    if piece.end:
        told |= {"prompt_tokens": piece.end.prompt_tokens, "tokens": piece.end.tokens, "finish": piece.end.reason}


def _note(answer: Answer, told: dict[str, object]) -> None:
    if answer.first_token_seconds is not None:
        told["first_token_seconds"] = round(answer.first_token_seconds, 6)
    if not answer.ended:
        told["finish"] = "left"


async def _by(deadline: float, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await work
    except TimeoutError:
        raise Late from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what *work* returns.

    Raises:
        ClientDisconnect: its client went before.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass

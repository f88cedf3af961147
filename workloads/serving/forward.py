"""The routes of a language model that vLLM serves: requests, answers and streams pass through as they are."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any

from fastapi import FastAPI
from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from workloads.serving.admission import Admission
from workloads.serving.answers import HttpError, as_text_errors, error_body
from workloads.serving.batcher import DeadlineExceeded
from workloads.serving.body import read_body
from workloads.serving.event_filter import EventFilter, as_length, usage_of
from workloads.serving.forwarded_request import PreparedRequest, prepare
from workloads.serving.forwarded_routes import ROUTES, Route
from workloads.serving.keys import Key
from workloads.serving.language import ERROR_RESPONSES
from workloads.serving.offload import offload
from workloads.serving.prompt_logprobs import ends_at_prompt_logprobs, refuse_prompt_logprobs
from workloads.serving.settings import ServingSettings
from workloads.serving.streaming import NO_BUFFERING, or_disconnect, wait_for_disconnect
from workloads.serving.upstream import Upstream, UpstreamError, UpstreamResponse

HEADERS = ("accept", "content-type", "traceparent", "tracestate", "anthropic-version", "anthropic-beta")
"""Headers of a request that go to vLLM. Others steer vLLM itself, such as its choice of a rank."""
MODELS_SECONDS = 10.0
GRACE_SECONDS = 5.0
"""Seconds after the time limit in which vLLM may end a text with what it has so far."""


class Forwarder:
    """The routes of one model, and the slots that its requests share."""

    def __init__(self, upstream: Upstream, admission: Admission, settings: ServingSettings) -> None:
        self._upstream, self._admission, self._settings = upstream, admission, settings

    def add_routes(self, app: FastAPI) -> None:
        """Add the routes to *app*."""
        body = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}
        responses = {200: {"description": "vLLM's own answer, whole or as a stream."}, **ERROR_RESPONSES}
        for route in ROUTES:
            app.post(route.path, summary=route.summary, responses=responses, openapi_extra=body)(self._endpoint(route))
        app.get("/v1/models", summary="The model and its adapters", responses=ERROR_RESPONSES)(self._models)
        app.get("/v1/models/{model_id:path}", summary="One of them, by name", responses=ERROR_RESPONSES)(self._model)

    def _endpoint(self, route: Route) -> Callable[..., Any]:
        async def endpoint(request: Request) -> Response:
            return await self._answer(request, route)

        return endpoint

    async def _models(self) -> JSONResponse:
        return JSONResponse({"object": "list", "data": await self._list()})

    async def _model(self, model_id: str) -> JSONResponse:
        models = await self._list()
        for model in models:
            if model["id"] == model_id:
                return JSONResponse(model)
        reason = f"no model {model_id[:64]} here; this server has {', '.join(model['id'] for model in models)}"
        raise HttpError(404, reason, param="model", code="model_not_found")

    async def _list(self) -> list[dict[str, Any]]:
        """Return vLLM's models; the path of a model on this host becomes its name."""
        try:
            async with asyncio.timeout(MODELS_SECONDS):
                found = await self._upstream.json("/v1/models")
        except (UpstreamError, TimeoutError) as error:
            raise _no_answer(error) from None
        return [{**model, "root": model["id"]} for model in found["data"]]

    async def _answer(self, request: Request, route: Route) -> Response:
        """Return vLLM's answer to *request*.

        Raises:
            HttpError: the body is malformed or refused, there is no slot, or no token in time.
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        with as_text_errors(settings.deadline_seconds):
            async with AsyncExitStack() as cleanup, read_body(request, settings) as content:
                start, began = time.perf_counter(), loop.time()
                deadline = began + settings.deadline_seconds
                # never the client's own: a second request with it could end the first one
                request_id = uuid.uuid4().hex
                prepared = await offload(
                    len(content), settings.deadline_seconds, self._prepare, content, route, request_id,
                    request.state.key,
                )  # fmt: skip
                del content
                if route.computes:
                    await or_disconnect(request, self._admission.acquire(deadline))
                    slot = time.perf_counter()
                    cleanup.callback(lambda: self._admission.release(time.perf_counter() - slot))
                limit = began + (settings.stream_seconds if prepared.streams else settings.answer_seconds)
                exchange = Exchange(self._upstream, request, route, prepared, request_id, start, limit)
                cleanup.push_async_callback(exchange.finish)
                await or_disconnect(request, exchange.open())
                if exchange.streams:
                    await or_disconnect(request, exchange.read_first(deadline))
                    return exchange.stream(cleanup.pop_all())
                return await or_disconnect(request, exchange.whole())

    def _prepare(self, content: bytes, route: Route, request_id: str, key: Key | None) -> "PreparedRequest":
        if ends_at_prompt_logprobs(self._settings):
            refuse_prompt_logprobs(content, route.path)
        return prepare(content, route, request_id, self._settings.vllm.kv_transfer, key)


class Exchange:
    """One request to vLLM and its answer."""

    def __init__(
        self,
        upstream: Upstream,
        request: Request,
        route: Route,
        prepared: PreparedRequest,
        request_id: str,
        start: float,
        limit: float,
    ) -> None:
        """
        Args:
            request_id: The id that vLLM gets for the request.
            start: The time by `time.perf_counter`, in seconds, at which the request was complete.
            limit: The loop's time at which vLLM has to end the answer.
        """
        self._upstream, self._request, self._route, self._prepared = upstream, request, route, prepared
        self._start, self._loop = start, asyncio.get_running_loop()
        self._log_fields: dict[str, Any] = request.state.log_fields
        self._id = request_id
        self._response: UpstreamResponse | None = None
        self._opening: asyncio.Task[UpstreamResponse] | None = None
        self._has_ended = False
        """Whether vLLM's answer, or an error in its place, has been read to its end."""
        self._has_left = False
        self._events = EventFilter(prepared.hides_usage)
        self._first = b""
        self._cut: asyncio.Task[None] | None = None
        self._late = False
        """Whether vLLM had not ended the answer a while after the limit."""
        self._timers = [
            self._loop.call_at(limit, self._end_text), self._loop.call_at(limit + GRACE_SECONDS, self._break_off)
        ]  # fmt: skip

    async def open(self) -> None:
        """Send the request, and wait for the head of the answer.

        Raises:
            HttpError: vLLM does not answer, or not before the time limit.
        """
        headers = {name: value for name in HEADERS if (value := self._request.headers.get(name)) is not None}
        request = self._upstream.request(
            "POST", self._route.path, {**headers, "x-request-id": self._id}, self._prepared.body
        )
        self._opening = asyncio.ensure_future(request)
        try:
            # a client that leaves still pays for the work, which vLLM counts in the answer
            self._response = await asyncio.shield(self._opening)
        except UpstreamError as error:
            self._has_ended = True
            raise _no_answer(error) from None
        except asyncio.CancelledError:
            if self._late:
                raise self._too_long() from None
            raise

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of events."""
        return self._content_type.startswith("text/event-stream")

    @property
    def _content_type(self) -> str:
        assert self._response is not None
        return str(self._response.headers.get("content-type", "application/json"))

    async def read_first(self, deadline: float) -> None:
        """Read the stream as far as its first token.

        Raises:
            DeadlineExceeded: no token by *deadline*, the loop's time.
            HttpError: vLLM ended the stream before.
        """
        assert self._response is not None
        try:
            async with asyncio.timeout_at(deadline):
                while self._route.first_token not in self._first:
                    part = await self._response.content.readany()
                    if not part:
                        break
                    self._first += self._events.feed(part)
        except TimeoutError:
            raise DeadlineExceeded from None
        except UpstreamError as error:
            self._has_ended = True
            raise _no_answer(error) from None
        self._log_fields["first_token_seconds"] = round(time.perf_counter() - self._start, 6)

    async def whole(self) -> Response:
        """Return an answer that is no stream, an error among them.

        Raises:
            HttpError: vLLM ended the connection, or did not end the answer before the time limit.
        """
        assert self._response is not None
        try:
            content = await self._response.read()
        except UpstreamError as error:
            self._has_ended = True
            raise self._too_long() if self._late else _no_answer(error) from None
        self._has_ended = True
        status = self._response.status
        if status >= 400:
            self._log_fields.setdefault("reason", "malformed" if status in (400, 422) else f"vLLM answered {status}")
        else:
            content = as_length(content) if self._cut else content
            self._log_fields |= await self._fields_of(content)
        return Response(content, status, media_type=self._content_type)

    def stream(self, cleanup: AsyncExitStack) -> "ForwardedStream":
        """Return the answer that is a stream; *cleanup* runs at its end."""
        return ForwardedStream(self, cleanup)

    async def send_events(self, send: Send) -> None:
        """Send the events, the first of them included, until the end of the stream.

        Raises:
            UpstreamError: vLLM ended the connection, or `close` did.
        """
        assert self._response is not None
        content, body, events = self._response.content, self._first, self._events
        while True:
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            try:
                part = await content.readany()
            except UpstreamError:
                self._has_ended = True
                raise
            if not part:
                break
            body = events.feed(part)
        self._has_ended = True
        await send({"type": "http.response.body", "body": events.end()})

    def error_event(self) -> bytes:
        """Return the event that tells a client why its stream has ended early."""
        self._log_fields["reason"] = "time limit" if self._late else "failed"
        error = self._too_long() if self._late else HttpError(502, "vLLM ended the stream")
        return b"data: " + to_json(error_body(self._route.path, error)) + b"\n\n"

    def leave(self) -> None:
        """End the work on a request whose client has left; vLLM's answer then says what it has used."""
        if self._has_left or self._has_ended:
            return
        self._has_left = True
        for timer in self._timers:
            timer.cancel()
        self._timers = [self._loop.call_later(GRACE_SECONDS, self._break_off)]
        if self._prepared.ids:
            self._end_text()
        else:
            self._break_off()

    async def finish(self) -> None:
        """End the work on the request, if it has not ended, and note what it has used."""
        try:
            if self._opening and not self._has_ended and not self._late:
                self.leave()
                await self._read_rest(self._opening)
        finally:
            for timer in self._timers:
                timer.cancel()
            if self._opening and not self._opening.done():
                self._opening.cancel()
            if self._response:
                self._response.close()
        self._log_use()
        self._has_ended = True

    async def _read_rest(self, opening: "asyncio.Task[UpstreamResponse]") -> None:
        """Read an answer that no client reads to its end, for what it has used."""
        await asyncio.wait([opening])
        if opening.cancelled():
            return
        with suppress(UpstreamError):
            self._response = opening.result()
            if self.streams:
                while part := await self._response.content.readany():
                    self._events.feed(part)
            elif self._response.status < 400:
                self._log_fields |= await self._fields_of(await self._response.read())

    async def _fields_of(self, content: bytes) -> dict[str, Any]:
        return await offload(len(content), GRACE_SECONDS, text_fields, content, self._route)

    def _log_use(self) -> None:
        """Note the tokens of a stream, and about those of a prompt that vLLM has not counted."""
        if self._opening is None or (self._response and self._response.status != 200):
            return
        if self._response and self.streams:
            finish = "left" if self._has_left else self._events.finish
            self._log_fields |= {**self._events.total, **({"finish": finish} if finish else {})}
        elif self._has_left:
            self._log_fields["finish"] = "left"
        if self._route.computes:
            self._log_fields.setdefault("prompt_tokens", self._prepared.prompt_tokens)

    def _end_text(self) -> None:
        """Make vLLM end the text with the tokens that it has so far; the reason in the answer becomes `length`."""
        self._events.is_cut = True
        if self._prepared.ids:
            self._cut = asyncio.create_task(self._upstream.abort(self._prepared.ids))

    def _break_off(self) -> None:
        self._late = True
        if self._opening and not self._opening.done():
            self._opening.cancel()
        if self._response:
            self._response.close()

    def _too_long(self) -> HttpError:
        reason = "the answer took longer than the server allows; ask for fewer tokens"
        return HttpError(400, reason, code="time_limit_exceeded")


class ForwardedStream(Response):
    """A stream of vLLM's events. It has no task of its own for each event: 64 streams share one core."""

    def __init__(self, exchange: Exchange, cleanup: AsyncExitStack) -> None:
        super().__init__(headers=NO_BUFFERING, media_type="text/event-stream")
        del self.headers["content-length"]
        self._exchange, self._cleanup = exchange, cleanup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._cleanup:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            disconnect = asyncio.ensure_future(wait_for_disconnect(receive))
            disconnect.add_done_callback(lambda task: None if task.cancelled() else self._exchange.leave())
            try:
                await self._exchange.send_events(send)
            except UpstreamError:
                if disconnect.done():
                    return
                # without an end, so that no client takes the half text for a whole one
                await send({"type": "http.response.body", "body": self._exchange.error_event(), "more_body": True})
            finally:
                disconnect.cancel()


def text_fields(content: bytes, route: Route) -> dict[str, Any]:
    """Return the log fields that *content*, an answer of *route*, gives: tokens and the reason of the end.

    An answer with a text whose tokens cannot be read, as a client may make it by what the answer repeats, has about as
    many as its bytes.
    """
    try:
        found = from_json(content)
    except ValueError:
        found = None
    answer: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    choices = answer.get("choices")
    last = choices[-1] if isinstance(choices, list) and choices else {}
    finish = last.get("finish_reason") if isinstance(last, Mapping) else None
    fields = {**usage_of(answer), **({"finish": finish} if isinstance(finish, str) else {})}
    return {"tokens": -(-len(content) // 4), **fields} if route.writes_text else fields


def _no_answer(error: Exception) -> HttpError:
    """Return the error for a request that vLLM did not answer; the next request goes to a new vLLM."""
    return HttpError(502, f"vLLM does not answer ({type(error).__name__})", {"retry-after": "10"})

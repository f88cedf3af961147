"""An application that answers as vLLM does, on a Unix socket in a thread: for tests of what our server adds to it.

The truth about vLLM itself is acceptance line models.5, which has a real one.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.model_servers import eventually
from workloads.serving.forward import ROUTES
from workloads.serving.model import Model
from workloads.serving.upstream import ABORT

KEY, FINGERPRINT, WORDS = "the key of vLLM", "vllm-0.0-1", ("one", " two", " three")
STREAMS = {
    "/v1/messages": (
        {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 0}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " more"}},
        {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 7, "output_tokens": 3}},
    ),
    "/v1/responses": (
        {"type": "response.created", "response": {"usage": None}},
        {"type": "response.output_text.delta", "delta": " more"},
        {"type": "response.completed", "response": {"usage": {"input_tokens": 7, "output_tokens": 3}}},
    ),
}
"""Begin, middle and end of a stream that goes on until it is aborted, by path."""
USAGE = {"prompt_tokens": 7, "total_tokens": 10, "completion_tokens": 3}


class VllmApp:
    """A runtime whose model answers as the last message, or the prompt, says: see `_text`."""

    description = "a test"
    key = KEY

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self.model = Model(name="held", version="1", runtime="vllm", files={}, lineage={"of": "a test"})
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.left = threading.Semaphore(0)
        """Released when a client has left amid an answer."""
        self.aborted = asyncio.Event()
        app = Starlette(routes=[
            *(Route(route.path, self._answer, methods=["POST"]) for route in ROUTES),
            Route("/v1/models", self._models), Route(ABORT, self._abort, methods=["POST"]),
            Route("/invocations", self._answer, methods=["POST"]),
        ])  # fmt: skip
        config = uvicorn.Config(app, uds=str(socket_path), lifespan="off", log_config=None, access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    @contextmanager
    def running(self):
        self._thread.start()
        eventually(lambda: self._server.started)
        try:
            yield self
        finally:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join(60)

    def end_texts(self) -> None:
        """End the texts that go on for ever, as the route that aborts requests does."""
        self._server.servers[0].get_loop().call_soon_threadsafe(self.aborted.set)

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]

    async def _models(self, request: Request) -> Response:
        models = [{"id": name, "object": "model", "root": f"/srv/{name}"} for name in ("held", "adapted")]
        return JSONResponse({"object": "list", "data": models})

    async def _abort(self, request: Request) -> Response:
        self.requests.append((ABORT, dict(request.headers), await request.body()))
        self.aborted.set()
        return Response()

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.requests.append((request.url.path, dict(request.headers), body))
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"error": "Unauthorized"}, 401)
        try:
            asked = json.loads(body)
        except ValueError:
            return _error(400, "no JSON: hunter2")
        prompt = asked.get("prompt") or asked.get("input") or asked.get("messages", [{"content": ""}])[-1]["content"]
        if prompt == "wrong":
            return _error(400, "Conversation roles must alternate: hunter2")
        if prompt == "failing":
            return _error(500, "the engine failed at hunter2")
        if asked.get("messages", [{}])[-1].get("content") == "uncounted":
            return Response(b"\x93NUMPY", media_type="application/octet-stream")
        if request.url.path in STREAMS and asked.get("stream"):
            return StreamingResponse(self._events(*STREAMS[request.url.path]), media_type="text/event-stream")
        if prompt == "for ever" and request.url.path in STREAMS:
            await self._until_disconnect(request)
            return JSONResponse({"usage": {"input_tokens": 7, "output_tokens": 3}})
        if request.url.path not in ("/v1/chat/completions", "/v1/completions"):
            return JSONResponse({"path": request.url.path, "usage": {"input_tokens": 5, "output_tokens": 2}})
        if asked.get("stream"):
            usage = (asked.get("stream_options") or {}).get("include_usage", False)
            return StreamingResponse(self._text(prompt, usage), media_type="text/event-stream")
        if prompt == "for ever":
            await self._until_disconnect(request)
        return _json({"id": "chatcmpl-1", "choices": [_choice("one two three", self._reason())], "usage": USAGE})

    async def _until_disconnect(self, request: Request) -> None:
        while not self.aborted.is_set():
            if await request.is_disconnected():
                self.left.release()
                raise RuntimeError("the client has left")
            await asyncio.sleep(0.01)

    async def _events(self, begin: dict[str, Any], more: dict[str, Any], end: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            yield _event(begin)
            while not self.aborted.is_set():
                yield _event(more)
                await asyncio.sleep(0.01)
            yield _event(end)
        finally:
            if not self.aborted.is_set():
                self.left.release()

    def _reason(self) -> str:
        return "abort" if self.aborted.is_set() else "stop"

    async def _text(self, prompt: str, usage: bool) -> AsyncIterator[bytes]:
        if prompt == "late":
            await asyncio.sleep(60)
        try:
            yield _event({"choices": [_choice("", None)]})
            for word in WORDS:
                # an event may come in several pieces, and several events in one
                event = _event({"choices": [_choice(word, None)]})
                yield event[:9]
                yield event[9:]
            while prompt in ("for ever", "half") and not self.aborted.is_set():
                yield _event({"choices": [_choice(" more", None)]})
                await asyncio.sleep(0.01)
        finally:
            if prompt == "for ever" and not self.aborted.is_set():
                self.left.release()
        if prompt == "half":
            raise RuntimeError("the connection breaks here")
        stamp = {"system_fingerprint": FINGERPRINT}
        last = _event({"choices": [_choice("", self._reason())], **({} if usage else stamp)})
        end = _event({"choices": [], **stamp, "usage": USAGE}) if usage else b""
        yield last + end + b"data: [DONE]\n\n"


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text}, "finish_reason": reason}


def _event(data: object) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _json(data: object) -> Response:
    return Response(json.dumps(data, separators=(",", ":")), media_type="application/json")


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "x", "param": None, "code": status}}, status)

"""The routes of an embedding model, in OpenAI's protocol."""

import asyncio
import base64
import struct
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BeforeValidator, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from workloads.serving.admission import Admission
from workloads.serving.answers import HttpError, as_text_errors
from workloads.serving.body import read_body
from workloads.serving.document import describe_body
from workloads.serving.language import ERROR_RESPONSES, add_model_routes
from workloads.serving.offload import offload
from workloads.serving.openai.body import ModelRequest, Texts, read
from workloads.serving.runtimes.runtime import EmbeddingRuntime, Embeddings, InvalidPrompt
from workloads.serving.settings import ServingSettings
from workloads.serving.streaming import or_disconnect
from workloads.serving.usage import Usage

MOST_TEXTS = 256
"""The most texts of a request."""


def _refuse_tokens(value: object) -> object:
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise ValueError(
            "tokens mean something to one model alone; send texts (LangChain: check_embedding_ctx_length=False)"
        )
    return value


class EmbeddingRequest(ModelRequest):
    input: Annotated[Texts, BeforeValidator(_refuse_tokens)] = Field(min_length=1, max_length=MOST_TEXTS)
    encoding_format: Literal["float", "base64"] = "float"


BODY_MODELS = (EmbeddingRequest,)
"""The bodies that a server's OpenAPI document describes."""


class Encoder:
    """A queue in front of an embedding model, which computes several requests at once, each in its own thread."""

    def __init__(self, runtime: EmbeddingRuntime, settings: ServingSettings, admission: Admission) -> None:
        self._runtime, self._settings, self._admission = runtime, settings, admission
        self._threads = ThreadPoolExecutor(settings.parallel, "embedding")

    async def run(self) -> None:
        """Run until cancelled, then wait for the texts that are being computed."""
        try:
            await asyncio.Event().wait()
        finally:
            self._threads.shutdown()

    def add_routes(self, app: FastAPI) -> None:
        """Add the routes of the model to *app*."""

        async def embeddings(request: Request) -> Response:
            return await self._answer(request)

        async def others(request: Request) -> Response:
            problem = f"{self._runtime.model.name} is an embedding model, which has /v1/embeddings alone"
            raise HttpError(404, problem, param="model", code="model_not_found")

        add_model_routes(app, self._runtime.model)
        for route in ("/v1/chat/completions", "/v1/completions"):
            app.router.add_route(route, others, ["POST"])
        extra = describe_body(EmbeddingRequest)
        app.post("/v1/embeddings", summary="Embed texts", responses=ERROR_RESPONSES, openapi_extra=extra)(embeddings)

    async def _answer(self, request: Request) -> Response:
        model, seconds = self._runtime.model, self._settings.deadline_seconds
        async with read_body(request, self._settings) as content:
            deadline = asyncio.get_running_loop().time() + seconds
            with as_text_errors(seconds):
                parsed = await offload(len(content), seconds, read, content, EmbeddingRequest, model)
        del content
        with as_text_errors(seconds):
            computed = await or_disconnect(request, self._embed(parsed.input, deadline, request.state.usage))
        request.state.log_fields["prompt_tokens"] = computed.tokens
        rows = [
            {"object": "embedding", "index": index, "embedding": _encode(vector, parsed.encoding_format)}
            for index, vector in enumerate(computed.vectors)
        ]
        usage = {"prompt_tokens": computed.tokens, "total_tokens": computed.tokens}
        answer = {"object": "list", "model": model.name, "data": rows, "usage": usage}
        return Response(to_json(answer), media_type="application/json")

    async def _embed(self, texts: Sequence[str], deadline: float, usage: Usage) -> Embeddings:
        """Return the vectors of *texts*. A client that leaves frees its slot, and pays, once they are computed.

        Raises:
            HttpError: 400 for a text that the model does not take.
            QueueFull: there is no slot.
        """
        await self._admission.acquire(deadline)
        began = time.perf_counter()
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._runtime.embed, texts)

        def release(done: asyncio.Future[Embeddings]) -> None:
            if not done.cancelled() and done.exception() is None:
                usage.raise_to(done.result().tokens)
            self._admission.release(time.perf_counter() - began)

        future.add_done_callback(release)
        try:
            return await asyncio.shield(future)
        except InvalidPrompt as error:
            raise HttpError(400, f"input: {error}", param="input", code=error.code) from None


def _encode(vector: Sequence[float], form: str) -> Any:
    """Return *vector* as a list, or as base64 of its numbers as FP32, lowest byte first."""
    return vector if form == "float" else base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()

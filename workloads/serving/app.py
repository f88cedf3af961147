"""The routes of a server for one model: health, metrics, metadata, and KServe's or OpenAI's protocol."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import request_response

from workloads.serving import document, embeddings, language, wire
from workloads.serving.admission import Admission
from workloads.serving.answers import Error, HttpError, as_http_errors, error_response
from workloads.serving.batcher import Arrays, Batcher
from workloads.serving.body import read_body
from workloads.serving.embeddings import Encoder
from workloads.serving.generation import Generation
from workloads.serving.keys import Keys
from workloads.serving.metrics import CONTENT_TYPE, Metrics
from workloads.serving.middleware import EventLog, Middleware
from workloads.serving.model import Model
from workloads.serving.offload import offload
from workloads.serving.quotas import Quotas
from workloads.serving.runtimes import (
    AdapterRuntime,
    AnyRuntime,
    EmbeddingRuntime,
    ForwardedRuntime,
    LanguageRuntime,
    ToolRuntime,
)
from workloads.serving.settings import ServingSettings
from workloads.serving.shares import Shares

ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The request is malformed; the error names the fault."},
    408: {"model": Error, "description": "The body did not come in time."},
    413: {"model": Error, "description": "The body is too large."},
    429: {
        "model": Error,
        "description": "The queue is full, or the key has used what it may. Retry-After says when to try again.",
    },
    503: {
        "model": Error,
        "description": "The bodies of other requests use all memory. Retry-After says when to try again.",
    },
    504: {"model": Error, "description": "The deadline of the request has passed."},
}
WITH_KEY: dict[int | str, dict[str, Any]] = {
    401: {"model": Error, "description": "The API key is missing or unknown."},
    403: {"model": Error, "description": "The API key does not allow this request."},
}
UNKNOWN_MODEL: dict[int | str, dict[str, Any]] = {
    404: {"model": Error, "description": "The server has another model or version."}
}


EXTENSIONS = ("binary_tensor_data", "model_lineage")
NO_EXTENSIONS = {
    "/v2/models/{name}/config": "model_configuration", "/v2/models/{name}/versions/{version}/config":
    "model_configuration", "/v2/models/stats": "statistics", "/v2/models/{name}/stats": "statistics",
    "/v2/models/{name}/versions/{version}/stats": "statistics", "/v2/repository/index": "model_repository",
    "/v2/repository/models/{name}/load": "model_repository", "/v2/repository/models/{name}/unload": "model_repository",
}  # fmt: skip
"""Routes of Triton's extensions of the protocol that its clients ask for, and the names of these extensions."""


class State:
    """The state of a server that changes while it runs."""

    draining = False
    """Whether the server has received a stop signal: it still answers requests, but clients should go elsewhere."""


def create(
    runtime: AnyRuntime,
    settings: ServingSettings,
    keys: Keys,
    quotas: Quotas,
    metrics: Metrics,
    state: State,
    log_event: EventLog,
) -> Middleware:
    """Return the ASGI application that serves the model of *runtime*."""
    queue, add_routes, body_models = _protocol(runtime, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(queue.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def unready() -> bool:
        stuck = isinstance(queue, Generation) and queue.is_stuck(settings.deadline_seconds)
        return state.draining or stuck

    app = FastAPI(title=f"rackwright server of {runtime.model.name}", version=runtime.model.version, lifespan=lifespan,
                  docs_url=None, redoc_url=None)  # fmt: skip

    adapters = runtime.adapters.directories if isinstance(runtime, AdapterRuntime) else None
    _health(app, metrics, runtime.model.version, unready, adapters)
    _metadata(app, runtime.model)
    add_routes(app)
    document.complete_schema(app, runtime.model, *body_models)
    _answer_head(app)
    _refusals(app)
    return Middleware(app, keys, Shares(settings), quotas, metrics, lambda: state.draining, log_event)


def _answer_head(app: FastAPI) -> None:
    """Make each route of *app* that answers GET answer HEAD. Source: RFC 9110, section 9.1.

    The document of *app* is complete before: it would have both as operations of the same name.
    """
    for route in app.routes:
        if isinstance(route, APIRoute) and "GET" in route.methods:
            route.methods.add("HEAD")


class Queue(Protocol):
    """The part of a server that carries requests to the model."""

    async def run(self) -> None:
        """Run until cancelled."""


def _protocol(
    runtime: AnyRuntime, settings: ServingSettings, metrics: Metrics
) -> tuple[Queue, Callable[[FastAPI], None], Sequence[type[BaseModel]]]:
    """Return the queue of *runtime*, what adds its routes, and the bodies that the server's OpenAPI document has."""
    admission = Admission(settings.parallel, settings.queue, metrics)
    if isinstance(runtime, ForwardedRuntime):
        # here, because a server of another runtime needs no aiohttp
        from workloads.serving.forward import Forwarder
        from workloads.serving.upstream import Upstream

        upstream = Upstream(runtime.socket_path, runtime.key)
        return upstream, Forwarder(upstream, admission, settings).add_routes, ()
    if isinstance(runtime, LanguageRuntime):
        generation = Generation(runtime.generate, settings.parallel, admission)
        writes_tools = isinstance(runtime, ToolRuntime) and runtime.writes_tools
        add = partial(
            language.add_routes,
            model=runtime.model,
            settings=settings,
            generation=generation,
            writes_tools=writes_tools,
        )
        return generation, add, language.BODY_MODELS
    if isinstance(runtime, EmbeddingRuntime):
        encoder = Encoder(runtime, settings, admission)
        return encoder, encoder.add_routes, embeddings.BODY_MODELS
    batcher = Batcher(runtime.infer, runtime.model.batches, settings.max_batch, settings.queue, metrics)
    return batcher, partial(_inference, model=runtime.model, settings=settings, queue=batcher), (wire.InferRequest,)


def _health(
    app: FastAPI,
    metrics: Metrics,
    version: str,
    unready: Callable[[], bool],
    adapters: Callable[[], dict[str, str]] | None,
) -> None:
    """Add the routes about the server's health.

    Args:
        unready: Whether the server is about to stop, or its model does not end an abandoned text.
        adapters: The loaded adapters, by name.
    """

    async def health() -> JSONResponse:
        return JSONResponse({"live": True})

    async def ready() -> JSONResponse:
        loaded, ready = {"adapters": adapters()} if adapters else {}, not unready()
        return JSONResponse({"ready": ready, "version": version, **loaded}, 200 if ready else 503)

    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    unready_response: dict[int | str, dict[str, Any]] = {
        503: {"description": "The server is about to stop, or its model does not end a text that was given up."}
    }
    app.get("/health", summary="The process is alive")(health)
    app.get("/v2/health/live", summary="The process is alive")(health)
    for route in ("/ready", "/v2/health/ready"):
        app.get(route, summary="The server accepts requests for this version of the model", responses=unready_response)(
            ready
        )
    app.get("/metrics", summary="Metrics for Prometheus", responses=WITH_KEY, response_class=PlainTextResponse)(figures)


def _metadata(app: FastAPI, model: Model) -> None:
    server = {"name": "rackwright", "version": "2", "extensions": EXTENSIONS}
    metadata = {
        "name": model.name,
        "versions": [model.version],
        "platform": model.runtime,
        "inputs": [tensor.model_dump() for tensor in model.inputs],
        "outputs": [tensor.model_dump() for tensor in model.outputs],
        "lineage": dict(model.lineage),
    }

    async def about_server() -> JSONResponse:
        return JSONResponse(server)

    async def about_model(name: str) -> JSONResponse:
        check_model(model, name)
        return JSONResponse(metadata)

    async def about_version(name: str, version: str) -> JSONResponse:
        check_model(model, name, version)
        return JSONResponse(metadata)

    async def ready(name: str) -> JSONResponse:
        check_model(model, name)
        return JSONResponse({"name": name, "ready": True})

    async def version_ready(name: str, version: str) -> JSONResponse:
        check_model(model, name, version)
        return JSONResponse({"name": name, "ready": True})

    for path, extension in NO_EXTENSIONS.items():
        app.router.add_route(path, _no_extension(extension), ["GET", "POST"])
    app.get("/v2", summary="Metadata of the server", responses=WITH_KEY)(about_server)
    both = {**WITH_KEY, **UNKNOWN_MODEL}
    app.get("/v2/models/{name}", summary="Metadata and lineage of the model", responses=both)(about_model)
    app.get("/v2/models/{name}/versions/{version}", summary="Metadata and lineage of a version", responses=both)(
        about_version
    )
    app.get("/v2/models/{name}/ready", summary="The model is loaded", responses=both)(ready)
    app.get("/v2/models/{name}/versions/{version}/ready", summary="The version is loaded", responses=both)(
        version_ready
    )


def _no_extension(extension: str) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers the routes of an *extension* of KServe's protocol that the server does not have."""

    async def endpoint(request: Request) -> Response:
        raise HttpError(404, f"the server has no extension {extension}; it has {', '.join(EXTENSIONS)}")

    return endpoint


def _inference(app: FastAPI, model: Model, settings: ServingSettings, queue: Batcher) -> None:
    async def infer(name: str, request: Request) -> Response:
        check_model(model, name)
        return await answer(request)

    async def infer_version(name: str, version: str, request: Request) -> Response:
        check_model(model, name, version)
        return await answer(request)

    async def answer(request: Request) -> Response:
        parsed, began = await _read(request, model, settings)
        request.state.log_fields["rows"] = parsed.rows
        outputs = await _compute(queue, parsed, settings, began)
        with as_http_errors(settings.deadline_seconds):
            size = sum(outputs[name].nbytes for name in parsed.outputs)
            content, json_bytes = await offload(size, settings.deadline_seconds, wire.write, parsed, outputs, model)
        if json_bytes is None:
            return Response(content, media_type="application/json")
        return Response(content, headers={wire.HEADER: str(json_bytes)}, media_type="application/octet-stream")

    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    body_schema = document.describe_body(wire.InferRequest, **binary)
    options: dict[str, Any] = {
        "methods": ["POST"], "responses": {**ERRORS, **WITH_KEY, **UNKNOWN_MODEL}, "openapi_extra": body_schema,
        "route_class_override": _Direct,
    }  # fmt: skip
    add = app.router.add_api_route
    add("/v2/models/{name}/infer", infer, summary="Run inference", **options)
    add("/v2/models/{name}/versions/{version}/infer", infer_version, summary="Run inference with a version", **options)


class _Direct(APIRoute):
    """A route on the hot path: its function takes path parameters alone, and no dependencies are resolved."""

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **more: Any) -> None:
        super().__init__(path, endpoint, **more)

        async def answer(request: Request) -> Response:
            return await endpoint(request=request, **request.path_params)

        self.app = request_response(answer)


async def _read(request: Request, model: Model, settings: ServingSettings) -> tuple[wire.InferenceRequest, float]:
    """Return the parsed *request*, and the event loop's time when its body was complete.

    Raises:
        HttpError: the request is malformed, too large or too slow.
    """
    async with read_body(request, settings) as content:
        began, json_bytes = asyncio.get_running_loop().time(), _json_bytes(request)
        arguments = (content, json_bytes, model, settings.max_batch)
        try:
            with as_http_errors(settings.deadline_seconds):
                return await offload(len(content), settings.deadline_seconds, wire.read, *arguments), began
        except wire.MalformedRequest as malformed:
            raise HttpError(400, str(malformed)) from None


async def _compute(queue: Batcher, parsed: wire.InferenceRequest, settings: ServingSettings, began: float) -> Arrays:
    seconds = min(settings.deadline_seconds, parsed.timeout_seconds or settings.deadline_seconds)
    with as_http_errors(seconds):
        return await queue.submit(parsed.arrays, parsed.rows, began + seconds)


def _json_bytes(request: Request) -> int | None:
    value = request.headers.get(wire.HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        raise HttpError(400, f"{wire.HEADER}: got {value[:32]!r}; it is a number of bytes")
    return int(value)


def check_model(model: Model, name: str, version: str | None = None) -> None:
    """Check that *name*, and *version* if there is one, are those of *model*.

    Raises:
        HttpError: 404 if they differ.
    """
    if name != model.name:
        raise HttpError(404, f"no model {name} here; this server has {model.name}")
    if version is not None and version != model.version:
        raise HttpError(404, f"no version {version} of {name} here; this server has {model.version}")


def _refusals(app: FastAPI) -> None:
    """Give every error, the framework's own among them, the form of its protocol."""

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HttpError)
        # the reason of a 400 may quote the request
        reasons = {400: error.code or "malformed", 403: "scope"}
        request.state.log_fields.setdefault("reason", reasons.get(error.status, error.reason))
        return error_response(request.url.path, error)

    async def on_framework_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return error_response(request.url.path, HttpError(error.status_code, str(error.detail), error.headers))

    async def on_failure(request: Request, error: Exception) -> Response:
        reason = f"the server failed with {type(error).__name__}; see its log"
        # uvicorn closes the connection after a failure, and only this header tells the client
        return error_response(request.url.path, HttpError(500, reason, {"connection": "close"}))

    app.add_exception_handler(HttpError, on_http_error)
    app.add_exception_handler(HTTPException, on_framework_error)
    app.add_exception_handler(Exception, on_failure)

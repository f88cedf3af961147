"""The routes of a server for one model: health, figures, what it is; KServe's protocol, or OpenAI's for language."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import request_response

from workloads.serving import document, language, wire
from workloads.serving.answers import Error, Refused, in_turn, refusal
from workloads.serving.batcher import Arrays, Batcher
from workloads.serving.body import body
from workloads.serving.generation import Generation
from workloads.serving.keys import Keys
from workloads.serving.metrics import CONTENT_TYPE, Metrics
from workloads.serving.middleware import Edge, Say
from workloads.serving.model import Model
from workloads.serving.offload import offload
from workloads.serving.runtimes import Language, Runtime
from workloads.serving.settings import Settings

REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "Malformed; says what is."},
    408: {"model": Error, "description": "The body did not come in time."},
    413: {"model": Error, "description": "The body is too large."},
    429: {"model": Error, "description": "The queue is full; Retry-After says for how long."},
    503: {
        "model": Error,
        "description": "The bodies of other requests take all memory; Retry-After says for how long.",
    },
    504: {"model": Error, "description": "Its deadline has passed."},
}
WITH_KEY: dict[int | str, dict[str, Any]] = {
    401: {"model": Error, "description": "No key that is known."},
    403: {"model": Error, "description": "The key does not allow it."},
}
NOT_HERE: dict[int | str, dict[str, Any]] = {404: {"model": Error, "description": "Another model, or version."}}


class State:
    """What of a server changes while it runs."""

    draining = False
    """It has been told to stop: requests are still answered, but none should come any more."""


def create(
    runtime: Runtime | Language, settings: Settings, keys: Keys, metrics: Metrics, state: State, say: Say
) -> Edge:
    """Return the ASGI application that serves the model of *runtime*."""
    queue: Generation | Batcher
    if isinstance(runtime, Language):
        queue = Generation(runtime.generate, settings.parallel, settings.queue, metrics)
    else:
        queue = Batcher(runtime.infer, runtime.model.batches, settings.max_batch, settings.queue, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(queue.run())
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(title=f"rackwright server of {runtime.model.name}", version=runtime.model.version, lifespan=lifespan,
                  docs_url=None, redoc_url=None)  # fmt: skip

    _health(app, metrics, runtime.model.version, lambda: state.draining)
    _metadata(app, runtime.model)
    if isinstance(queue, Generation):
        language.routes(app, runtime.model, settings, queue)
        document.complete(app, runtime.model, *language.BODIES)
    else:
        _inference(app, runtime.model, settings, queue)
        document.complete(app, runtime.model, wire.InferRequest)
    _refusals(app)
    return Edge(app, keys, metrics, lambda: state.draining, say)


def _health(app: FastAPI, metrics: Metrics, version: str, draining: Callable[[], bool]) -> None:
    async def health() -> JSONResponse:
        return JSONResponse({"live": True})

    async def ready() -> JSONResponse:
        return JSONResponse({"ready": not draining(), "version": version}, 503 if draining() else 200)

    async def figures() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    stopping: dict[int | str, dict[str, Any]] = {503: {"description": "It has been told to stop."}}
    app.get("/health", summary="The process answers")(health)
    app.get("/v2/health/live", summary="The process answers")(health)
    for route in ("/ready", "/v2/health/ready"):
        app.get(route, summary="It takes requests, for this version of the model", responses=stopping)(ready)
    app.get("/metrics", summary="Figures for Prometheus", responses=WITH_KEY, response_class=PlainTextResponse)(figures)


def _metadata(app: FastAPI, model: Model) -> None:
    server = {"name": "rackwright", "version": "2", "extensions": ["binary_tensor_data", "model_lineage"]}
    told = {
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
        known(model, name)
        return JSONResponse(told)

    async def about_version(name: str, version: str) -> JSONResponse:
        known(model, name, version)
        return JSONResponse(told)

    async def ready(name: str) -> JSONResponse:
        known(model, name)
        return JSONResponse({"name": name, "ready": True})

    app.get("/v2", summary="What the server is", responses=WITH_KEY)(about_server)
    both = {**WITH_KEY, **NOT_HERE}
    app.get("/v2/models/{name}", summary="What the model is, and where it comes from", responses=both)(about_model)
    app.get("/v2/models/{name}/versions/{version}", summary="The same of a version", responses=both)(about_version)
    app.get("/v2/models/{name}/ready", summary="The model is loaded", responses=both)(ready)


def _inference(app: FastAPI, model: Model, settings: Settings, queue: Batcher) -> None:
    async def infer(name: str, request: Request) -> Response:
        known(model, name)
        return await answer(request)

    async def infer_version(name: str, version: str, request: Request) -> Response:
        known(model, name, version)
        return await answer(request)

    async def answer(request: Request) -> Response:
        asked, began = await _read(request, model, settings)
        request.state.told["rows"] = asked.rows
        outputs = await _computed(queue, asked, settings, began)
        with in_turn(settings.deadline_seconds):
            size = sum(outputs[name].nbytes for name in asked.outputs)
            told, json_bytes = await offload(size, settings.deadline_seconds, wire.write, asked, outputs, model)
        if json_bytes is None:
            return Response(told, media_type="application/json")
        return Response(told, headers={wire.HEADER: str(json_bytes)}, media_type="application/octet-stream")

    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    described = document.body_of(wire.InferRequest, **binary)
    of_both: dict[str, Any] = {
        "methods": ["POST"], "responses": {**REFUSALS, **WITH_KEY, **NOT_HERE}, "openapi_extra": described,
        "route_class_override": _Direct,
    }  # fmt: skip
    add = app.router.add_api_route
    add("/v2/models/{name}/infer", infer, summary="Ask the model", **of_both)
    add("/v2/models/{name}/versions/{version}/infer", infer_version, summary="Ask a version of it", **of_both)


class _Direct(APIRoute):
    """A route that is asked often. What its function takes stands in its path: nothing else is looked for each time."""

    def __init__(self, path: str, endpoint: Callable[..., Awaitable[Response]], **more: Any) -> None:
        super().__init__(path, endpoint, **more)

        async def answer(request: Request) -> Response:
            return await endpoint(request=request, **request.path_params)

        self.app = request_response(answer)


async def _read(request: Request, model: Model, settings: Settings) -> tuple[wire.InferenceRequest, float]:
    """Return what *request* asks, and when its body was there, by the event loop's clock.

    Raises:
        Refused: it cannot be answered.
    """
    async with body(request, settings) as content:
        began, json_bytes = asyncio.get_running_loop().time(), _json_bytes(request)
        arguments = (content, json_bytes, model, settings.max_batch)
        try:
            with in_turn(settings.deadline_seconds):
                return await offload(len(content), settings.deadline_seconds, wire.read, *arguments), began
        except wire.Malformed as malformed:
            raise Refused(400, str(malformed)) from None


async def _computed(queue: Batcher, asked: wire.InferenceRequest, settings: Settings, began: float) -> Arrays:
    seconds = min(settings.deadline_seconds, asked.timeout_seconds or settings.deadline_seconds)
    with in_turn(seconds):
        return await queue.submit(asked.arrays, asked.rows, began + seconds)


def _json_bytes(request: Request) -> int | None:
    value = request.headers.get(wire.HEADER)
    if value is None:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 19):
        raise Refused(400, f"{wire.HEADER}: got {value[:32]!r}; it is a number of bytes")
    return int(value)


def known(model: Model, name: str, version: str | None = None) -> None:
    """Return if *name*, and *version* where there is one, are those of *model*.

    Raises:
        Refused: 404.
    """
    if name != model.name:
        raise Refused(404, f"no model {name} here; this is {model.name}")
    if version is not None and version != model.version:
        raise Refused(404, f"no version {version} of {name} here; this is {model.version}")


def _refusals(app: FastAPI) -> None:
    """Give every refusal, the framework's own among them, the form of its protocol."""

    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        request.state.told.setdefault("reason", error.reason if error.status != 400 else "malformed")
        return refusal(request.url.path, error)

    async def its(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refusal(request.url.path, Refused(error.status_code, str(error.detail), error.headers))

    async def failed(request: Request, error: Exception) -> Response:
        reason = f"it failed here: {type(error).__name__}; the log has more"
        return refusal(request.url.path, Refused(500, reason))

    app.add_exception_handler(Refused, ours)
    app.add_exception_handler(HTTPException, its)
    app.add_exception_handler(Exception, failed)

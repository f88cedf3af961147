"""KServe's protocol, version 2, over gRPC, beside HTTP: each call is a request to the same application.

A call becomes a request of the binary extension of the protocol over REST, with its key as the header. Keys, quotas,
limits of sizes and times, errors, the log and metrics are therefore those of HTTP. The key is checked before the
message is read, and the fields of a message are counted before it is parsed.
"""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError
from starlette.datastructures import Headers
from starlette.types import Message

from workloads.errors import Diagnostic, UserError
from workloads.serving import wire
from workloads.serving.answers import HttpError
from workloads.serving.batcher import DeadlineExceeded
from workloads.serving.grpc_messages import CLASSES, METHODS, PACKAGE, SERVICE
from workloads.serving.grpc_scan import check_message
from workloads.serving.middleware import Middleware
from workloads.serving.offload import MAX_VALUES, offload
from workloads.serving.settings import ServingSettings
from workloads.serving.shares import MAX_BODIES, Share

STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND, 408: grpc.StatusCode.DEADLINE_EXCEEDED, 413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT, 429: grpc.StatusCode.RESOURCE_EXHAUSTED, 503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
"""Status of gRPC for that of HTTP; others are INTERNAL. Source: the codes' meanings in grpc/doc/statuscodes.md."""
HEADERS = ("authorization", "x-api-key", "x-request-id")
"""Metadata of a call that become headers."""
ROUTES = {
    "ServerLive": ("GET", "/v2/health/live"), "ServerReady": ("GET", "/v2/health/ready"),
    "ModelReady": ("GET", "/v2/models"), "ServerMetadata": ("GET", "/v2"), "ModelMetadata": ("GET", "/v2/models"),
    "ModelInfer": ("POST", "/v2/models"),
}  # fmt: skip
"""Requests that need the scopes of a method. A refused call has this path in the log: its message was not read."""
EMPTY = ("ServerLive", "ServerReady")
"""Methods that need no key. Their messages have no fields, and are not read."""
STREAMS = 128
"""Calls that one connection may have at a time."""
OVERHEAD_BYTES = 1 << 16
"""Bytes of a message beside its tensors: names, shapes and parameters."""
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Field of the values of a datatype. Source: InferTensorContents of the protocol; FP16 has bytes alone."""


@dataclass(frozen=True, slots=True)
class AppResponse:
    """The answer of the application."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


class GrpcFront:
    """The gRPC server of one application, in its event loop."""

    def __init__(self, app: Middleware, settings: ServingSettings) -> None:
        self._app, self._settings = app, settings
        self._reading = asyncio.Semaphore(MAX_BODIES)
        self._server: Any = None
        self._ipv6: socket.socket | None = None
        """The socket that keeps gRPC from IPv6."""

    async def start(self) -> str:
        """Listen, and return the address.

        Raises:
            UserError: The port is not free, or the certificate cannot be used.
        """
        host, wanted = self._settings.host, self._settings.grpc_port or 0
        place = f"{f'[{host}]' if ':' in host else host}:{wanted}"
        self._server = self._create()
        try:
            if ":" not in host:
                place = self._ipv4_alone(host, wanted)
            credentials = self._credentials()
            port = (
                self._server.add_secure_port(place, credentials)
                if credentials
                else self._server.add_insecure_port(place)
            )
        except (RuntimeError, OSError) as error:
            problem = f"the server cannot listen on {place}: {error}"
            expected = "a free port, and an address of this computer"
            raise UserError(Diagnostic("grpc_port", problem, expected, "Use another port or address")) from error
        await self._server.start()
        return f"grpc{'s' if credentials else ''}://{place.rpartition(':')[0]}:{port}"

    def _ipv4_alone(self, host: str, port: int) -> str:
        """Return the IPv4 address of *host* with a port at which gRPC listens by IPv4 alone, as HTTP does.

        gRPC listens on all addresses of both families when it gets 0.0.0.0. It leaves IPv6 out if the port is taken
        there, so a socket that never listens takes it.

        Raises:
            OSError: *host* has no IPv4 address, or the port is not free by IPv6.
        """
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]
        if ip_address(found).is_unspecified and _has_ipv6():
            self._ipv6 = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            self._ipv6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._ipv6.bind(("::", port))
            port = self._ipv6.getsockname()[1]
        return f"{found}:{port}"

    async def stop(self, seconds: float) -> None:
        """End: no further calls, and up to *seconds* for those under way."""
        if self._server is not None:
            await self._server.stop(seconds)
        if self._ipv6 is not None:
            self._ipv6.close()

    def _create(self) -> Any:
        """Return a server in the running event loop."""
        settings = self._settings
        limit = settings.body_bytes + OVERHEAD_BYTES
        server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.connections,
            options=[
                ("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", STREAMS), ("grpc.max_metadata_size", 16 << 10),
                ("grpc.max_allowed_incoming_connections", settings.connections_of_port),
                ("grpc.max_connection_idle_ms", 1000 * settings.idle_seconds), ("grpc.so_reuseport", 0),
                ("grpc.server_handshake_timeout_ms", round(1000 * settings.head_seconds)),
            ],
        )  # fmt: skip
        handlers = {name: self._handler(name) for name in METHODS}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"{PACKAGE}.{SERVICE}", handlers),))
        return server

    def _credentials(self) -> grpc.ServerCredentials | None:
        settings = self._settings
        if not settings.tls_certificate or not settings.tls_key:
            return None
        authorities = settings.tls_client_authorities
        pair = (Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes())
        roots = Path(authorities).read_bytes() if authorities else None
        return grpc.ssl_server_credentials([pair], roots, require_client_auth=roots is not None)

    def _handler(self, name: str) -> Any:
        """Return the handler of the method *name*; its message is read after the check of its key, within limits."""
        response_class = CLASSES[f"{name}Response"]
        act: Callable[[Any, Call], Awaitable[dict[str, Any]]] = getattr(self, f"_{name}")

        async def answer(messages: Any, context: Any) -> Any:
            try:
                method, path = ROUTES[name]
                try:
                    share = self._app.find_share(method, path, Headers(raw=_headers(context)))
                except HttpError:
                    await self._ask(Call(context), method, path)  # the application refuses, counts and logs it
                    raise
                call = Call(context, share)
                with share.hold_request() if share else nullcontext():
                    request = None if name in EMPTY else await self._read(call, name)
                    return response_class(**await act(request, call))
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"the message is no {name}Request")
            except (HttpError, wire.MalformedRequest, DeadlineExceeded) as error:
                status = error.status if isinstance(error, HttpError) else 400
                if isinstance(error, DeadlineExceeded):
                    status = 504
                headers = error.headers if isinstance(error, HttpError) and error.headers else {}
                metadata = tuple((key, value) for key, value in headers.items() if key == "retry-after")
                code = STATUS.get(status, grpc.StatusCode.INTERNAL)
                await context.abort(code, str(error) or "no answer in time", metadata)

        return grpc.stream_unary_rpc_method_handler(answer, response_serializer=response_class.SerializeToString)

    async def _read(self, call: "Call", name: str) -> Any:
        """Return the message of a call of the method *name*, as `parse` does.

        Raises:
            HttpError: 408 if it did not come in time, 429 or 503 if there was no slot in time, 400 if there is none.
        """
        seconds, deadline = self._settings.body_seconds, self._settings.deadline_seconds
        full = HttpError(503, "other calls use all memory; try again in 1 s", {"retry-after": "1"})
        reason = f"{MAX_BODIES // 2} messages of this key are under way; try again in 1 s"
        full_of_key = HttpError(429, reason, {"retry-after": "1"})
        try:
            async with AsyncExitStack() as slots:
                if call.share:
                    await slots.enter_async_context(_slot(call.share.messages, seconds, full_of_key))
                await slots.enter_async_context(_slot(self._reading, seconds, full))
                try:
                    async with asyncio.timeout(seconds):
                        content = await call.context.read()
                except TimeoutError:
                    raise HttpError(408, f"the message did not arrive within {seconds:g} s") from None
                if not isinstance(content, bytes):
                    raise HttpError(400, "the call has no message")
                return await offload(len(content), deadline, parse, name, content)
        except HttpError as error:
            await self._ask(call, *ROUTES[name], error=error)  # the application counts and logs it
            raise

    async def _ask(
        self,
        call: "Call",
        method: str,
        path: str,
        body: bytes = b"",
        head: int | None = None,
        error: HttpError | None = None,
    ) -> AppResponse:
        """Return the answer of the application.

        Args:
            head: Bytes of JSON in *body*, which tensors follow.
            error: The answer that the application shall give.

        Raises:
            HttpError: The answer is an error other than 503 of a health check.
        """
        headers = _headers(call.context)
        headers += [(wire.HEADER.encode(), str(head).encode())] if head is not None else []
        headers += [(b"content-length", str(len(body)).encode())] if body else []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "2", "method": method, "path": path,
            "raw_path": path.encode(), "query_string": b"", "headers": headers, "scheme": "http", "root_path": "",
            "client": (_client(call.context.peer()), 0), "server": None, "state": {"share": call.share, "error": error},
        }  # fmt: skip
        sent: dict[str, Any] = {"parts": []}
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                sent["headers"] = {key.decode(): value.decode() for key, value in message.get("headers", ())}
            else:
                sent["parts"].append(message.get("body", b""))

        try:
            await self._app(scope, receive, send)
        except Exception as failure:  # of the model: the application has answered, and raises for the log
            logging.getLogger("uvicorn.error").error("a call by gRPC failed", exc_info=failure)
            if "status" not in sent:
                raise HttpError(500, f"the server failed with {type(failure).__name__}; see its log") from None
        response = AppResponse(sent["status"], sent["headers"], b"".join(sent["parts"]))
        if response.status >= 400 and not path.startswith("/v2/health"):
            reason = response.json.get("error", f"status {response.status}")
            raise HttpError(response.status, str(reason), response.headers)
        return response

    async def _ServerLive(self, request: Any, call: "Call") -> dict[str, Any]:
        return {"live": (await self._ask(call, "GET", "/v2/health/live")).status == 200}

    async def _ServerReady(self, request: Any, call: "Call") -> dict[str, Any]:
        return {"ready": (await self._ask(call, "GET", "/v2/health/ready")).status == 200}

    async def _ModelReady(self, request: Any, call: "Call") -> dict[str, Any]:
        try:
            await self._ask(call, "GET", f"{_path(request.name, request.version)}/ready")
        except HttpError as error:
            if error.status != 404:
                raise
            return {"ready": False}  # as Triton answers for a model that it does not have
        return {"ready": (await self._ask(call, "GET", "/v2/health/ready")).status == 200}

    async def _ServerMetadata(self, request: Any, call: "Call") -> dict[str, Any]:
        found: dict[str, Any] = (await self._ask(call, "GET", "/v2")).json
        return found

    async def _ModelMetadata(self, request: Any, call: "Call") -> dict[str, Any]:
        found = (await self._ask(call, "GET", _path(request.name, request.version))).json
        return {name: found[name] for name in ("name", "versions", "platform", "inputs", "outputs")}

    async def _ModelInfer(self, request: "RestRequest", call: "Call") -> dict[str, Any]:
        path, seconds = f"{_path(request.name, request.version)}/infer", self._settings.deadline_seconds
        answer = await self._ask(call, "POST", path, request.body, request.head)
        return await offload(len(answer.content), seconds, from_rest, answer.content, int(answer.headers[wire.HEADER]))


@dataclass(frozen=True, slots=True)
class Call:
    """A call under way."""

    context: Any
    """gRPC's context."""
    share: Share | None = None
    """The share of its key, which counts it; None without keys, and before the check of the key."""


@asynccontextmanager
async def _slot(slots: asyncio.Semaphore, seconds: float, error: HttpError) -> AsyncIterator[None]:
    """Hold one of *slots* during the block.

    Raises:
        HttpError: *error*, if none became free within *seconds*.
    """
    try:
        async with asyncio.timeout(seconds):
            await slots.acquire()
    except TimeoutError:
        raise error from None
    try:
        yield
    finally:
        slots.release()


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A ModelInferRequest in the binary form of the protocol over REST."""

    name: str
    version: str
    body: bytes
    head: int
    """Bytes of JSON in the body, which tensors follow."""


def parse(name: str, content: bytes) -> Any:
    """Return the message of a call of the method *name*; for ModelInfer a RestRequest.

    Raises:
        DecodeError: *content* is no such message.
        MalformedRequest: It has too many fields or values, or wrong ones.
    """
    check_message(f"{name}Request", content)
    message = CLASSES[f"{name}Request"].FromString(content)
    if name != "ModelInfer":
        return message
    head, tensors = as_rest(message)
    return RestRequest(message.model_name, message.model_version, b"".join((head, *tensors)), len(head))


def _headers(context: Any) -> list[tuple[bytes, bytes]]:
    """Return the metadata of a call that become headers."""
    metadata = {key: value for key, value in context.invocation_metadata() or () if key in HEADERS}
    return [(key.encode(), str(value).encode("latin-1", "replace")) for key, value in metadata.items()]


def _has_ipv6() -> bool:
    """Return whether a socket of this computer can have an IPv6 address."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _path(name: str, version: str) -> str:
    """Return the path of a model.

    Raises:
        HttpError: A name has characters that no model's name has.
    """
    if not name or not all(part.isprintable() and "/" not in part and len(part) <= 256 for part in (name, version)):
        raise HttpError(404, "no such model here: a name has letters, digits and . _ -")
    return f"/v2/models/{name}/versions/{version}" if version else f"/v2/models/{name}"


def _client(peer: str) -> str:
    """Return the address in *peer*, such as ``ipv4:192.0.2.1:40000`` or ``ipv6:%5B::1%5D:40000``."""
    family, _, place = peer.partition(":")
    return place.rpartition(":")[0].removeprefix("%5B").removesuffix("%5D") if family.startswith("ip") else ""


def as_rest(request: Any) -> tuple[bytes, Sequence[bytes]]:
    """Return the JSON of *request*, and its tensors, in the binary form of the protocol over REST.

    Raises:
        MalformedRequest: It has values and bytes, or too many values.
    """
    raw: list[bytes] = list(request.raw_input_contents)
    if raw and (len(raw) != len(request.inputs) or any(tensor.HasField("contents") for tensor in request.inputs)):
        raise wire.MalformedRequest("raw_input_contents: it has one tensor for each of inputs, which have no contents")
    tensors = raw or [_content(tensor) for tensor in request.inputs]
    inputs = [
        {
            "name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape),
            "parameters": {**_parameters(tensor.parameters), "binary_data_size": len(content)},
        }
        for tensor, content in zip(request.inputs, tensors, strict=True)
    ]  # fmt: skip
    body: dict[str, Any] = {
        "inputs": inputs, "parameters": {**_parameters(request.parameters), "binary_data_output": True},
    }  # fmt: skip
    if request.outputs:
        body["outputs"] = [
            {"name": tensor.name, "parameters": {**_parameters(tensor.parameters), "binary_data": True}}
            for tensor in request.outputs
        ]
    if request.id:
        body["id"] = request.id
    return json.dumps(body).encode(), tensors


def _parameters(parameters: Any) -> dict[str, Any]:
    values = {name: (value.WhichOneof("parameter_choice"), value) for name, value in parameters.items()}
    return {name: getattr(value, field) for name, (field, value) in values.items() if field}


def _content(tensor: Any) -> bytes:
    """Return the values of *tensor* as bytes.

    Raises:
        MalformedRequest: Another field than that of its datatype has values, there are too many, or one is too large.
    """
    where = f"inputs.{tensor.name[:64]}.contents"
    field = CONTENTS.get(tensor.datatype)
    if others := [each.name for each, _ in tensor.contents.ListFields() if each.name != field]:
        raise wire.MalformedRequest(f"{where}: got {others[0]}; {tensor.datatype[:16]} has {field or 'bytes alone'}")
    values = getattr(tensor.contents, field) if field else ()
    if len(values) > MAX_VALUES:
        raise wire.MalformedRequest(f"{where}: got more than {MAX_VALUES} values; send raw_input_contents")
    if tensor.datatype == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in values)
    if not field:
        return b""
    dtype = wire.DTYPES[tensor.datatype]
    if dtype.kind in "iu" and len(values):
        limits = np.iinfo(dtype)
        if min(values) < limits.min or max(values) > limits.max:
            raise wire.MalformedRequest(f"{where}: {tensor.datatype} goes from {limits.min} to {limits.max}")
    content: bytes = np.fromiter(values, dtype, len(values)).tobytes()
    return content


def from_rest(content: bytes, head: int) -> dict[str, Any]:
    """Return the fields of a ModelInferResponse for an answer whose first *head* bytes are JSON."""
    body, tail = json.loads(content[:head]), memoryview(content)[head:]
    raw = []
    for tensor in body["outputs"]:
        size = tensor.pop("parameters")["binary_data_size"]
        raw.append(bytes(tail[:size]))
        tail = tail[size:]
    return {**body, "raw_output_contents": raw}

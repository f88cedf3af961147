"""Run the server of one model until a stop signal, then drain it without the loss of a request."""

import asyncio
import resource
import signal
import socket
import ssl
import threading
import time
from contextlib import closing, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn

from workloads.errors import Diagnostic, UserError
from workloads.serving import keys as api_keys
from workloads.serving.app import State, create
from workloads.serving.connection import protocol_with_limits
from workloads.serving.host_socket import bind_host_socket
from workloads.serving.keys import Keys
from workloads.serving.library_log import log_libraries
from workloads.serving.metrics import Metrics
from workloads.serving.middleware import EventLog, Middleware, log_event
from workloads.serving.model import NAME, read
from workloads.serving.quotas import Quotas
from workloads.serving.runtimes import (
    AdapterRuntime,
    AnyRuntime,
    EmbeddingRuntime,
    ForwardedRuntime,
    LanguageRuntime,
    RuntimeProcess,
    RuntimeProcessEnded,
    load_runtime,
)
from workloads.serving.settings import ServingSettings, with_model_defaults

if TYPE_CHECKING:
    from workloads.serving.grpc_front import GrpcFront


def serve(directory: Path, settings: ServingSettings) -> None:
    """Serve the model in *directory* until SIGTERM or SIGINT; a second signal stops the server at once.

    Raises:
        UserError: the model cannot be served with these settings.
        RuntimeProcessEnded: the process of the runtime ended by itself.
    """
    began = time.monotonic()
    log_libraries(log_event)
    settings = _for_model(directory, settings)
    keys = api_keys.read(Path(settings.keys)) if settings.keys else Keys(None)
    tls, reload = _tls(settings), threading.Event()
    _allow_open_files(settings)
    if settings.vllm.adapters_file:
        # from the first moment on: without a handler the signal would end the process
        signal.signal(signal.SIGHUP, lambda number, frame: reload.set())
    with (
        _bind(settings) as listening,
        bind_host_socket(settings) as host_socket,
        closing(_quotas(settings)) as quotas,
    ):
        runtime = load_runtime(directory, settings)
        with closing(runtime) if isinstance(runtime, RuntimeProcess) else nullcontext():
            load_seconds = time.monotonic() - began
            server = DrainingServer(runtime, settings, keys, tls, load_seconds, log_event, host_socket, reload, quotas)
            server.run([listening])
    if server.exit_reason:
        problem, help = f"the runtime ended: {server.exit_reason}", "If it ends again, correct what the message names"
        note = "the unit starts the server again"
        raise RuntimeProcessEnded(Diagnostic(str(directory), problem, help=help, note=note))
    log_event("stopped")


def _quotas(settings: ServingSettings) -> Quotas:
    """Return the quotas with the counts of their file, if there is one.

    Raises:
        UserError: the file cannot be used.
    """
    quotas = Quotas(path=Path(settings.quota_counts) if settings.quota_counts else None)
    for reason in quotas.warnings:
        log_event("quotas", reason=reason)
    return quotas


def _for_model(directory: Path, settings: ServingSettings) -> ServingSettings:
    """Return *settings* with the defaults of the published model in *directory*."""
    if not (directory / NAME).is_file():
        return settings
    return with_model_defaults(settings, read(directory).lineage)


class DrainingServer(uvicorn.Server):
    """uvicorn, which keeps serving for a while after a stop signal, so that a load balancer can notice."""

    def __init__(
        self,
        runtime: AnyRuntime,
        settings: ServingSettings,
        keys: Keys,
        tls: ssl.SSLContext | None,
        load_seconds: float,
        log_event: EventLog,
        host_socket: socket.socket | None = None,
        reload: threading.Event | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        """
        Args:
            host_socket: The bound Unix socket for requests of the server's own host.
            reload: Set when the server has to load its adapters again.
            quotas: The use of quotas; None: counted in memory.
        """
        watch = Path(settings.watch) if settings.watch else None
        self._state, self._metrics, self._log_event = State(), Metrics(runtime.model, load_seconds, watch), log_event
        self._drain_seconds, self._drain_end = settings.drain_seconds, 0.0
        self._process = runtime if isinstance(runtime, RuntimeProcess) else None
        self._adapters = runtime.adapters if isinstance(runtime, AdapterRuntime) else None
        self._reload, self._loading = reload or threading.Event(), False
        self._host_socket = host_socket
        self.exit_reason: str | None = None
        """Why the process of the runtime ended by itself; None while it runs."""
        self._start_fields = {
            "model": runtime.model.name, "version": runtime.model.version, "runtime": runtime.description,
            "load_seconds": round(load_seconds, 3),
        }  # fmt: skip
        app = create(runtime, settings, keys, quotas or Quotas(), self._metrics, self._state, log_event)
        self._front = _grpc_front(app, runtime, settings) if settings.grpc_port is not None else None
        self._stop_seconds = settings.stop_seconds
        super().__init__(uvicorn.Config(
            app, http=protocol_with_limits(settings.head_seconds), ws="none", lifespan="on", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=settings.idle_seconds,
            limit_concurrency=settings.connections_of_port, timeout_graceful_shutdown=settings.stop_seconds,
            ssl_context_factory=(lambda *_: tls) if tls else None,
        ))  # fmt: skip

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._host_socket is not None:
            loop, backlog = asyncio.get_running_loop(), self.config.backlog
            self.servers.append(
                await loop.create_unix_server(self._host_protocol, sock=self._host_socket, backlog=backlog)
            )
        for listening in sockets or []:
            host, port = listening.getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            self._log_event(
                "started", address=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", **self._start_fields
            )

        if self._front and self.started:
            self._log_event("listening", address=await self._front.start())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._front:
            await self._front.stop(0 if self.force_exit else self._stop_seconds)
        await super().shutdown(sockets)

    def _host_protocol(self) -> asyncio.Protocol:
        """Return the protocol of a connection from the own host, served even if clients use all connections."""
        connection: Any = self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        connection.limit_concurrency = None
        protocol: asyncio.Protocol = connection
        return protocol

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._state.draining:
            self.force_exit = self.should_exit = True
            return
        self._state.draining = True  # nothing else: a signal comes at any moment, even amid a line of the log

    async def _load_adapters(self) -> None:
        assert self._adapters
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._adapters.load)
        except UserError as error:
            self._log_event("adapters", reason="; ".join(str(each) for each in error.diagnostics))
        else:
            self._log_event("adapters", loaded=sorted(self._adapters.directories()))
        finally:
            self._loading = False

    async def on_tick(self, counter: int) -> bool:
        if self._reload.is_set() and self._adapters and not self._loading:
            self._reload.clear()
            self._loading = True
            self._task = asyncio.create_task(self._load_adapters())
        if self._process and not self.exit_reason and (reason := self._process.exit_reason()):
            self.exit_reason, self._state.draining, self._drain_end = reason, True, time.monotonic()
            self._metrics.set_draining()
            self._log_event("lost", reason=reason)
        if self._state.draining and not self._drain_end:
            self._drain_end = time.monotonic() + self._drain_seconds
            self._metrics.set_draining()
            self._log_event("draining", seconds=self._drain_seconds)
        if self._drain_end and time.monotonic() >= self._drain_end:
            self.should_exit = True
        stop: bool = await super().on_tick(counter)
        return stop


def _grpc_front(app: Middleware, runtime: AnyRuntime, settings: ServingSettings) -> "GrpcFront":
    """Return the gRPC server of *app*.

    Raises:
        UserError: The model takes no arrays, or the environment has no gRPC.
    """
    if isinstance(runtime, LanguageRuntime | EmbeddingRuntime | ForwardedRuntime):
        problem = f"{runtime.model.name} is a language model, which has OpenAI's protocol over HTTP"
        raise UserError(Diagnostic("grpc_port", problem, "a model that takes arrays", "Remove grpc_port"))
    try:
        from workloads.serving.grpc_front import GrpcFront
    except ImportError as error:
        problem, expected = f"this environment has no gRPC: {error}", "the packages grpcio and protobuf"
        help = "Install them, or remove grpc_port"
        raise UserError(Diagnostic("grpc_port", problem, expected, help)) from error
    return GrpcFront(app, settings)


def _allow_open_files(settings: ServingSettings) -> None:
    """Raise the limit of open files of this process to one for each connection.

    Raises:
        UserError: Its hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = settings.open_files
    if hard != resource.RLIM_INFINITY and hard < needed:
        problem = f"got {settings.connections}; this process may open {hard} files"
        help = "Raise the hard limit of open files (LimitNOFILE of a unit, or ulimit -Hn), or lower connections"
        raise UserError(Diagnostic("connections", problem, f"a limit of {needed} open files", help))
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _bind(settings: ServingSettings) -> socket.socket:
    """Return the bound socket; it accepts no connection before the model is ready."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for IPPROTO_TCP: else answers on keep-alive connections wait for 40 ms
    server_socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind((settings.host, settings.port))
    except OSError as error:
        server_socket.close()
        problem = f"the server cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
        expected = "a free port, and an address of this computer"
        raise UserError(Diagnostic("port", problem, expected, "Use another port or address")) from error
    return server_socket


def _tls(settings: ServingSettings) -> ssl.SSLContext | None:
    if not settings.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
        if settings.tls_client_authorities:
            context.load_verify_locations(settings.tls_client_authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError is one
        problem = f"the certificate or its key cannot be used: {error.strerror or error}"
        expected, help = "PEM files that belong together", "Correct tls_certificate and tls_key"
        raise UserError(Diagnostic("tls_certificate", problem, expected, help)) from error
    return context

"""From a directory to a server that runs until it is told to stop, and then loses no request."""

import asyncio
import socket
import ssl
import time
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from workloads.errors import WorkloadError
from workloads.serving import keys as api_keys
from workloads.serving.app import State, create
from workloads.serving.connection import limited
from workloads.serving.keys import Keys
from workloads.serving.metrics import Metrics
from workloads.serving.middleware import Say, say
from workloads.serving.runtimes import Language, Lost, Managed, Runtime, opened
from workloads.serving.settings import Settings


def serve(directory: Path, settings: Settings) -> None:
    """Serve the model in *directory* until SIGTERM or SIGINT; a second signal ends it at once.

    Raises:
        WorkloadError: it cannot be served so.
        Lost: the process that computes has ended by itself.
    """
    began = time.monotonic()
    keys = api_keys.read(Path(settings.keys)) if settings.keys else Keys(None)
    tls = _tls(settings)
    with _listen(settings) as listening, _own(settings) as own:
        runtime = opened(directory, settings)
        with closing(runtime) if isinstance(runtime, Managed) else nullcontext():
            server = Server(runtime, settings, keys, tls, time.monotonic() - began, say, own)
            server.run([listening])
    if server.lost:
        fix = "Start the server again, as its unit does; if that does not last, mend what was said"
        raise Lost(str(directory), f"got {server.lost}", "it goes on until it is told to stop", fix)
    say("stopped")


class Server(uvicorn.Server):
    """uvicorn, which goes on for a while after it has been told to stop, so that a balancer can notice."""

    def __init__(
        self,
        runtime: Runtime | Language,
        settings: Settings,
        keys: Keys,
        tls: ssl.SSLContext | None,
        load_seconds: float,
        say: Say,
        own: socket.socket | None = None,
    ) -> None:
        """
        Args:
            own: The bound Unix socket for the questions of its own host.
        """
        watch = Path(settings.watch) if settings.watch else None
        self._state, self._metrics, self._say = State(), Metrics(runtime.model, load_seconds, watch), say
        self._drain_seconds, self._until = settings.drain_seconds, 0.0
        self._managed = runtime if isinstance(runtime, Managed) else None
        self._own = own
        self.lost: str | None = None
        """What is told of the end of the process that computes, if it has ended by itself."""
        self._told = {
            "model": runtime.model.name, "version": runtime.model.version, "runtime": runtime.told,
            "load_seconds": round(load_seconds, 3),
        }  # fmt: skip
        app = create(runtime, settings, keys, self._metrics, self._state, say)
        super().__init__(uvicorn.Config(
            app, http=limited(settings.head_seconds), ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, timeout_keep_alive=settings.idle_seconds, limit_concurrency=settings.connections,
            timeout_graceful_shutdown=settings.stop_seconds, ssl_context_factory=(lambda *_: tls) if tls else None,
        ))  # fmt: skip

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._own is not None:
            loop, backlog = asyncio.get_running_loop(), self.config.backlog
            self.servers.append(await loop.create_unix_server(self._own_protocol, sock=self._own, backlog=backlog))
        for listening in sockets or []:
            host, port = listening.getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            self._say("started", address=f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}", **self._told)

    def _own_protocol(self) -> asyncio.Protocol:
        """Return the protocol of a connection of the own host, which is answered even if clients have all others."""
        made: Any = self.config.http_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        made.limit_concurrency = None
        protocol: asyncio.Protocol = made
        return protocol

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._state.draining:
            self.force_exit = self.should_exit = True
            return
        self._state.draining = True  # and no more: a signal comes at any moment, even amid a line of the log

    async def on_tick(self, counter: int) -> bool:
        if self._managed and not self.lost and (lost := self._managed.lost()):
            self.lost, self._state.draining, self._until = lost, True, time.monotonic()
            self._metrics.draining()
            self._say("lost", reason=lost)
        if self._state.draining and not self._until:
            self._until = time.monotonic() + self._drain_seconds
            self._metrics.draining()
            self._say("draining", seconds=self._drain_seconds)
        if self._until and time.monotonic() >= self._until:
            self.should_exit = True
        ended: bool = await super().on_tick(counter)
        return ended


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that is bound; nobody is let in before the model is ready."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off where the protocol is told: else answers on kept connections wait for 40 ms
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        got = f"got {settings.host}:{settings.port}: {error.strerror or error}"
        raise WorkloadError("port", got, "it is free, and the address is this computer's", "Take another") from error
    return bound


def _own(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """Return the bound socket for the host's own questions, or None where there is to be none."""
    if settings.own_socket is None:
        return nullcontext()
    path = Path(settings.own_socket)
    own = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)  # of a server that was killed; the directory is this account's alone
        own.bind(str(path))
        path.chmod(0o600)  # root needs no more
    except OSError as error:
        own.close()
        got, fix = f"got {error.strerror or error}", "Name a path in a directory of this account, or leave it out"
        raise WorkloadError(f"own_socket {path}", got, "a Unix socket can be made there", fix) from error
    return own


def _tls(settings: Settings) -> ssl.SSLContext | None:
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
        want, fix = "certificate and key are PEM files and belong together", "Mend tls_certificate and tls_key"
        raise WorkloadError("tls_certificate", f"got {error.strerror or error}", want, fix) from error
    return context

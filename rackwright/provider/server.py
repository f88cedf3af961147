"""The provider's gRPC server, and a service that answers the engine's handshake without the kinds.

For a command on a stack with resources the engine starts two plugins, and one of them only answers the handshake.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from rackwright import __version__
from rackwright.provider.caller import OwnAccountOnly
from rackwright.provider.lifetime import note_provider

if TYPE_CHECKING:
    from rackwright.provider.protocol import Provider

Context = grpc.ServicerContext

THREADS = 512
"""Maximum of concurrent calls, as with PULUMI_PARALLEL=512; a thread that waits for a host costs little."""
MESSAGE_BYTES = 400 << 20
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_BYTES),  # as the engine sets it on its side
    ("grpc.max_send_message_length", MESSAGE_BYTES),
]
LOADING = (
    *("Attach", "GetSchema", "CheckConfig", "DiffConfig", "Configure"),
    *("Check", "Diff", "Read", "Create", "Update", "Delete"),
)
"""Calls that need the whole provider."""


class Greeter(provider_pb2_grpc.ResourceProviderServicer):
    """The calls that every plugin answers, whatever it manages."""

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Context
    ) -> provider_pb2.ProviderHandshakeResponse:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=False)

    def GetPluginInfo(self, request: empty_pb2.Empty, context: Context) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=__version__)


class LazyProvider(Greeter):
    """A service that loads the provider at the first call that needs it, and passes such calls on."""

    def __init__(self, load: "Callable[[str], Provider]", engine_address: str) -> None:
        """
        Args:
            load: Returns the provider of the engine at an address.
        """
        self._load, self._engine_address = load, engine_address
        self._provider: Provider | None = None
        self._guard = threading.Lock()
        for name in LOADING:
            setattr(self, name, partial(self._pass_on, name))

    def Handshake(
        self, request: provider_pb2.ProviderHandshakeRequest, context: Context
    ) -> provider_pb2.ProviderHandshakeResponse:
        self._engine_address = request.engine_address
        return self._provider.Handshake(request, context) if self._provider else super().Handshake(request, context)

    def Cancel(self, request: empty_pb2.Empty, context: Context) -> empty_pb2.Empty:
        note_provider("ended")
        self.cancel()
        return empty_pb2.Empty()

    def cancel(self) -> None:
        if self._provider:
            self._provider.cancel()

    def close(self) -> None:
        if self._provider:
            self._provider.close()

    def _pass_on(self, name: str, request: Any, context: Context) -> Any:
        with self._guard:
            self._provider = self._provider or self._load(self._engine_address)
        return getattr(self._provider, name)(request, context)


def serve(service: provider_pb2_grpc.ResourceProviderServicer, port: int = 0) -> tuple[grpc.Server, int]:
    """Start answering this account's calls on the loopback interface; return the server and its port.

    Args:
        port: The port to listen on; 0 for a free one.
    """
    own_only = OwnAccountOnly(lambda: port)
    server = grpc.server(ThreadPoolExecutor(THREADS), interceptors=[own_only], options=CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(service, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port

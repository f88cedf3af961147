"""The check of a caller's account in the kernel's socket tables: only the provider's own account may call.

The provider listens on the loopback interface, where any local account can connect, and its calls act as root on hosts.
"""

import os
from collections.abc import Callable
from typing import Any

import grpc

from rackwright.hosts.peer_account import account_of


class OwnAccountOnly(grpc.ServerInterceptor):
    """Refuses every call whose connection does not belong to this process's account."""

    def __init__(self, port: Callable[[], int]) -> None:
        """
        Args:
            port: Returns the port that the server listens on.
        """
        self._port = port

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        if handler.request_streaming or handler.response_streaming:  # List: the provider has nothing to list
            return None

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            self._check(context)
            return handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(handle, handler.request_deserializer, handler.response_serializer)

    def _check(self, context: grpc.ServicerContext) -> None:
        peer = context.peer()
        account = account_of(peer, self._port())
        # a call that has ended may leave its port to another connection, whose account was read then
        if account == os.geteuid() and context.is_active():
            return
        caller = "an unknown account" if account is None else f"account {account}"
        expected = f"only account {os.geteuid()}, which started this provider, may call it"
        context.abort(grpc.StatusCode.PERMISSION_DENIED, f"call from {peer}: {caller} is refused; {expected}")

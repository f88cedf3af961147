"""An HTTP client for requests with a password: it follows no redirect, and accepts HTTP and HTTPS addresses alone.

urllib's own opener sends every header, the password included, to any address that a redirect names, http included.
"""

import ssl
from typing import Any
from urllib import request

from workloads.foreign import within

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HttpClient:
    """Sends requests to one server."""

    def __init__(self, host: str, trusted: ssl.SSLContext) -> None:
        """
        Args:
            host: Name of the server; a server on this computer is reached without a proxy.
            trusted: Certificates that https accepts.
        """
        self._opener = request.OpenerDirector()
        for handler in (
            request.ProxyHandler({} if host in LOOPBACK else None),
            request.HTTPHandler(),
            request.HTTPSHandler(context=trusted),
            request.HTTPErrorProcessor(),
            request.HTTPDefaultErrorHandler(),
            request.UnknownHandler(),
        ):
            self._opener.add_handler(handler)

    def send(self, message: request.Request, seconds: float) -> Any:
        """Return the open response to a request.

        Args:
            seconds: Time until the head of the response has come; for a file that is sent, between two parts of it.

        Raises:
            urllib.error.HTTPError: The status is not 2xx; a redirect is such a status.
            OSError, ValueError: The server does not respond, or the address is not an HTTP address.
        """
        if message.data is not None and not isinstance(message.data, bytes):
            return self._opener.open(message, timeout=seconds)
        return within(seconds, lambda: self._opener.open(message, timeout=seconds))


def redirect_target(error: Any) -> str:
    """Return the target of a redirect, without control characters; empty for any other response."""
    return repr(str(error.headers.get("Location", ""))[:200]) if 300 <= error.code < 400 else ""

"""HTTP requests that may carry a password: they follow no redirect, and reach no other kind of address than HTTP's.

urllib's own opener sends every header, the password included, to whatever address a redirect names, http included.
"""

import ssl
from typing import Any
from urllib import request

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HttpClient:
    """Sends requests to one server."""

    def __init__(self, host: str, trusted: ssl.SSLContext) -> None:
        """
        Args:
            host: The server's name; a server of this computer is reached past every proxy.
            trusted: The certificates that https accepts.
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

    def send(self, asked: request.Request, seconds: float) -> Any:
        """Return the open answer to a request.

        Raises:
            urllib.error.HTTPError: the status is not 2xx; a redirect is such a status.
            OSError, ValueError: the server does not answer, or the address is not one of HTTP.
        """
        return self._opener.open(asked, timeout=seconds)


def redirect_target(error: Any) -> str:
    """Return the address that a redirect names, without control characters; empty for any other answer."""
    return repr(str(error.headers.get("Location", ""))[:200]) if 300 <= error.code < 400 else ""

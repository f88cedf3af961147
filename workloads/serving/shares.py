"""The part of a server that one key may hold at a time, over HTTP and gRPC together.

Without a limit, slow bodies of one key could hold all connections, or all memory for bodies, until `body_seconds` end.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from workloads.serving.answers import HttpError
from workloads.serving.keys import Key
from workloads.serving.settings import ServingSettings

MAX_BODIES = 32
"""Bodies of the largest size that may be in memory at once, over all connections."""
REASON = "share"
"""The reason in log and metrics of a request that is refused because its key holds its share."""


class Share:
    """The connections, memory and places that one key holds."""

    def __init__(self, requests: int) -> None:
        """
        Args:
            requests: The most requests at a time.
        """
        self._most = requests
        self._requests = 0
        self.body_bytes = 0
        """Bytes of received bodies that no handler has parsed yet."""
        self.messages = asyncio.Semaphore(MAX_BODIES // 2)
        """Messages of gRPC that are read and parsed."""

    def error(self) -> HttpError | None:
        """Return the 429 that answers a further request, if the key has as many as it may have."""
        if self._requests < self._most:
            return None
        reason = f"this key has {self._most} requests under way, and may have no more; try again in 1 s"
        # the connection of a refused request would otherwise wait for its body
        return HttpError(429, reason, {"retry-after": "1", "connection": "close"})

    @contextmanager
    def hold_request(self) -> Iterator[None]:
        """Count a request until its end."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1


class Shares:
    """The shares of all keys of a server."""

    def __init__(self, settings: ServingSettings) -> None:
        self._requests = settings.requests_of_key
        self._shares: dict[str, Share] = {}

    def of(self, key: Key) -> Share:
        return self._shares.setdefault(key.sha256, Share(self._requests))

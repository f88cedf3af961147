"""The body of a request: so many bytes, and in so much time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from workloads.serving.answers import Refused
from workloads.serving.settings import Settings

BODIES = 32
"""So many bodies of the largest size may be in memory at once, of all connections together."""


class Held:
    """Bytes of the bodies that have come and are not read yet, of all connections."""

    bytes = 0


@asynccontextmanager
async def body(request: Request, settings: Settings) -> AsyncIterator[bytes]:
    """Yield the whole body of *request*, which is let go after the block.

    What is too large is read to its end and thrown away: a connection that is closed upon who still sends loses him
    the answer. Who asks first (Expect: 100-continue) is answered at once.

    Raises:
        Refused: 413, 408, or 503 where the bodies of others take all memory that there is for them.
    """
    limit = settings.body_bytes
    announced = request.headers.get("content-length", "")
    large = announced.isdecimal() and int(announced[:19]) > limit
    if large and request.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(limit)
    parts: list[bytes] = []
    size = kept = 0
    full = False
    try:
        try:
            async with asyncio.timeout(settings.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    large = large or size > limit
                    full = full or Held.bytes + len(part) > BODIES * limit
                    if large or full:
                        parts.clear()
                        Held.bytes, kept = Held.bytes - kept, 0
                    else:
                        parts.append(part)
                        Held.bytes, kept = Held.bytes + len(part), kept + len(part)
        except TimeoutError:
            reason = f"the body has not come within {settings.body_seconds:g} s"
            raise Refused(408, reason, {"connection": "close"}) from None
        if large:
            raise _too_large(limit)
        if full:
            raise Refused(503, "the bodies of other requests take all memory; come back in 1 s", {"retry-after": "1"})
        request.state.told["bytes_received"] = size
        content = b"".join(parts)
        parts.clear()
        yield content
    finally:
        Held.bytes -= kept


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} bytes", {"connection": "close"})

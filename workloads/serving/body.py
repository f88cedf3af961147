"""The body of a request, read within limits of size and time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from workloads.serving.answers import HttpError
from workloads.serving.settings import ServingSettings

MAX_BODIES = 32
"""Bodies of the largest size that may be in memory at once, over all connections."""


class BufferedBodies:
    """The bytes of received bodies that no handler has parsed yet, over all connections."""

    bytes = 0


@asynccontextmanager
async def read_body(request: Request, settings: ServingSettings) -> AsyncIterator[bytes]:
    """Yield the whole body of *request*; its memory is free again after the block.

    A body that is too large is read to its end and thrown away: a client whose connection closes while it sends never
    sees the answer. A client that asks first (Expect: 100-continue) gets its answer at once.

    Raises:
        HttpError: 413 if too large, 408 if too slow, 503 if the bodies of other requests use all memory.
    """
    limit = settings.body_bytes
    content_length = request.headers.get("content-length", "")
    large = content_length.isdecimal() and int(content_length[:19]) > limit
    if large and request.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(limit)
    parts: list[bytes] = []
    size = buffered = 0
    full = False
    try:
        try:
            async with asyncio.timeout(settings.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    large = large or size > limit
                    full = full or BufferedBodies.bytes + len(part) > MAX_BODIES * limit
                    if large or full:
                        parts.clear()
                        BufferedBodies.bytes, buffered = BufferedBodies.bytes - buffered, 0
                    else:
                        parts.append(part)
                        BufferedBodies.bytes, buffered = BufferedBodies.bytes + len(part), buffered + len(part)
        except TimeoutError:
            reason = f"the body did not arrive within {settings.body_seconds:g} s"
            raise HttpError(408, reason, {"connection": "close"}) from None
        if large:
            raise _too_large(limit)
        if full:
            raise HttpError(503, "the bodies of other requests use all memory; try again in 1 s", {"retry-after": "1"})
        request.state.log_fields["bytes_received"] = size
        content = b"".join(parts)
        parts.clear()
        yield content
    finally:
        BufferedBodies.bytes -= buffered


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes", {"connection": "close"})

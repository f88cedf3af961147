"""The body of a request: so many bytes, and in so much time."""

import asyncio

from starlette.requests import Request

from workloads.serving.answers import Refused
from workloads.serving.settings import Settings


async def body(request: Request, settings: Settings) -> bytes:
    """Return the whole body of *request*.

    What is too large is read to its end and thrown away: a connection that is closed upon who still sends loses him
    the answer. Who asks first (Expect: 100-continue) is answered at once.

    Raises:
        Refused: 413 or 408.
    """
    limit = settings.body_bytes
    announced = request.headers.get("content-length", "")
    large = announced.isdecimal() and int(announced[:19]) > limit
    if large and request.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                size += len(part)
                large = large or size > limit
                if large:
                    parts.clear()
                else:
                    parts.append(part)
    except TimeoutError:
        reason = f"the body has not come within {settings.body_seconds:g} s"
        raise Refused(408, reason, {"connection": "close"}) from None
    if large:
        raise _too_large(limit)
    request.state.told["bytes_received"] = size
    return b"".join(parts)


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} bytes", {"connection": "close"})

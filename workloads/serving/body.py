"""The body of a request, read within limits of size and time."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from workloads.serving.answers import HttpError
from workloads.serving.offload import THREAD
from workloads.serving.settings import ServingSettings
from workloads.serving.shares import MAX_BODIES, REASON, Share

ENCODINGS = ("identity", "gzip", "deflate")
"""Values of Content-Encoding that the server reads. Source: RFC 9110, section 8.4.1."""
GZIP = 16 + zlib.MAX_WBITS
"""The header that zlib expects. Source: zlib's manual, inflateInit2."""
MOST_MEMBERS = 16
"""The most members of a gzip file in a body: each costs a copy of the rest. Source: RFC 1952, section 2.2."""


class BufferedBodies:
    """The bytes of received bodies that no handler has parsed yet, over all connections."""

    bytes = 0


class _Body:
    """The bytes of one body in memory, counted for all connections and for the key of its request."""

    def __init__(self, share: Share | None) -> None:
        self._share, self._bytes = share, 0

    def refusal(self, size: int, limit: int) -> HttpError | None:
        """Return the error of a request for whose next *size* bytes there is no room.

        Args:
            limit: Bytes of the largest body.
        """
        headers = {"retry-after": "1"}
        if self._share and self._share.body_bytes + size > MAX_BODIES * limit // 2:
            return HttpError(429, "the bodies of this key use its half of the memory; try again in 1 s", headers)
        if BufferedBodies.bytes + size > MAX_BODIES * limit:
            return HttpError(503, "the bodies of other requests use all memory; try again in 1 s", headers)
        return None

    def set_size(self, size: int) -> None:
        """Note that the body has *size* bytes in memory now."""
        more = size - self._bytes
        self._bytes = size
        BufferedBodies.bytes += more
        if self._share:
            self._share.body_bytes += more


@asynccontextmanager
async def read_body(request: Request, settings: ServingSettings) -> AsyncIterator[bytes]:
    """Yield the whole body of *request*; its memory is free again after the block.

    A body that is too large is read to its end and thrown away: a client whose connection closes while it sends never
    sees the answer. A client that asks first (Expect: 100-continue) gets its answer at once.

    Raises:
        HttpError: 413 if too large, 408 if too slow, 415 if its encoding is unknown, 400 if it is encoded wrongly, 503
            if the bodies of other requests use all memory, 429 if those of the same key use its share.
    """
    limit = settings.body_bytes
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ENCODINGS:
        reason = f"the body has the encoding {encoding[:32]!r}; the server reads {', '.join(ENCODINGS)}"
        raise HttpError(415, reason, {"accept-encoding": ", ".join(ENCODINGS), "connection": "close"})
    content_length = request.headers.get("content-length", "")
    large = content_length.isdecimal() and int(content_length[:19]) > limit
    if large and request.headers.get("expect", "").lower() == "100-continue":
        raise _too_large(limit)
    parts: list[bytes] = []
    size, refusal = 0, None
    body = _Body(request.state.share)
    try:
        try:
            async with asyncio.timeout(settings.body_seconds):
                async for part in request.stream():
                    size += len(part)
                    large = large or size > limit
                    refusal = refusal or body.refusal(len(part), limit)
                    if large or refusal:
                        parts.clear()
                        body.set_size(0)
                    else:
                        parts.append(part)
                        body.set_size(size)
        except TimeoutError:
            reason = f"the body did not arrive within {settings.body_seconds:g} s"
            raise HttpError(408, reason, {"connection": "close"}) from None
        if large:
            raise _too_large(limit)
        if refusal:
            if refusal.status == 429:
                request.state.log_fields["reason"] = REASON
            raise refusal
        request.state.log_fields["bytes_received"] = size
        content = b"".join(parts)
        parts.clear()
        if encoding != "identity":
            content = await decode(content, encoding, limit)
            body.set_size(len(content))
        yield content
    finally:
        body.set_size(0)


async def decode(content: bytes, encoding: str, limit: int) -> bytes:
    """Return the body that is encoded as *content*.

    Raises:
        HttpError: 413 if the body has more than *limit* bytes, 400 if *content* does not have that *encoding*.
    """
    # a thread, always: a few bytes may become as many as the limit
    return await asyncio.get_running_loop().run_in_executor(THREAD, _decode, content, encoding, limit)


def _decode(content: bytes, encoding: str, limit: int) -> bytes:
    wbits = GZIP if encoding == "gzip" else zlib.MAX_WBITS if _has_zlib_header(content) else -zlib.MAX_WBITS
    body, rest = b"", content
    for _ in range(MOST_MEMBERS if encoding == "gzip" else 1):
        decoder = zlib.decompressobj(wbits)
        try:
            body += decoder.decompress(rest, limit + 1 - len(body))
        except zlib.error:
            break
        if len(body) > limit:
            raise _too_large(limit)
        rest = decoder.unused_data
        if not decoder.eof:
            break
        if not rest:
            return body
    raise HttpError(400, f"the body does not have its encoding, {encoding}")


def _has_zlib_header(content: bytes) -> bool:
    """Return whether *content* begins as RFC 1950 says; some clients send deflate without that header."""
    return len(content) > 1 and content[0] & 15 == zlib.DEFLATED and int.from_bytes(content[:2]) % 31 == 0


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes", {"connection": "close"})

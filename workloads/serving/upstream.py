"""The HTTP server of vLLM as a client sees it: requests over its Unix socket, by aiohttp.

aiohttp takes 10 to 12 microseconds of processor time for a streamed event, and httpx 85 to 90: 64 streams of 200
events each, on the same server and core.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
from pydantic_core import to_json

from workloads.foreign import InvalidData, parse_json

ABORT = "/inference/v1/abort_requests"
"""The route that ends requests by their ids; their answers end with what they have so far."""
UpstreamError: TypeAlias = aiohttp.ClientError
UpstreamResponse: TypeAlias = aiohttp.ClientResponse
ANSWER_BYTES = 1 << 20
"""Maximum size of an answer to a question of ours."""
CONNECT_SECONDS = 10.0
ABORT_SECONDS = 5.0


class Upstream:
    """A client of vLLM, which has one connection for each request.

    A connection that is used again may have been closed a moment before, and no client can tell whether vLLM has
    received the request.
    """

    def __init__(self, socket_path: Path, key: str) -> None:
        """
        Args:
            key: vLLM's own API key.
        """
        self._socket_path, self._key = socket_path, key
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Run until cancelled, with connections for requests."""
        connector = aiohttp.UnixConnector(str(self._socket_path), limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        headers = {"authorization": f"Bearer {self._key}"}
        async with aiohttp.ClientSession(
            "http://vllm", connector=connector, timeout=timeout, headers=headers, auto_decompress=False,
            skip_auto_headers=("user-agent", "accept-encoding", "content-type"), cookie_jar=aiohttp.DummyCookieJar(),
        ) as self._session:  # fmt: skip
            await asyncio.Event().wait()

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> UpstreamResponse:
        """Return the answer to a request once its head is there; closing the answer ends the work on it.

        Raises:
            UpstreamError: vLLM does not answer.
        """
        assert self._session is not None, "run() has begun"
        return await self._session.request(method, path, headers=headers, data=body, allow_redirects=False)

    async def json(self, path: str) -> Any:
        """Return the JSON that vLLM answers to a GET of *path*.

        Raises:
            UpstreamError: vLLM does not answer, not with 200, or with other data than JSON.
        """
        async with await self.request("GET", path) as response:
            response.raise_for_status()
            content = bytearray()
            async for part in response.content.iter_any():
                content += part
                if len(content) > ANSWER_BYTES:
                    raise aiohttp.ClientPayloadError("the answer is too long")
            try:
                return parse_json(bytes(content))
            except InvalidData as error:
                raise aiohttp.ClientPayloadError(str(error)) from None

    async def abort(self, ids: Iterable[str]) -> None:
        """Tell vLLM to end the requests with *ids*; a vLLM without that route ignores it."""
        with suppress(UpstreamError, TimeoutError):
            async with asyncio.timeout(ABORT_SECONDS):
                headers = {"content-type": "application/json"}
                body = to_json({"request_ids": list(ids)})
                async with await self.request("POST", ABORT, headers, body) as response:
                    await response.read()

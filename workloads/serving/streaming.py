"""Common parts of streams of text: their headers, and the end of the work when a client disconnects."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

T = TypeVar("T")
NO_BUFFERING = {"cache-control": "no-cache", "x-accel-buffering": "no"}
"""Headers that keep proxies from buffering a stream; the second is nginx's."""


async def or_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of *work*, unless the client disconnects first.

    Raises:
        ClientDisconnect: the client disconnected first.
    """
    task, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(wait_for_disconnect(request.receive))
    try:
        await asyncio.wait((task, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        disconnect.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client of *receive* has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass

"""Work on large bodies in a thread, so that the event loop stays free, with limits on their JSON."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workloads.serving.batcher import DeadlineExceeded

T = TypeVar("T")
SMALL_BYTES = 64 << 10
"""The largest body that the event loop handles itself: a change of threads would take longer."""
MAX_CONTAINERS, MAX_VALUES = 1 << 16, 1 << 21
"""The most lists and objects, and the most values, of a body in JSON. Parsed they take 150 MB in all."""
THREAD = ThreadPoolExecutor(1, "bodies")
"""The one thread for bodies, so that large ones use memory one after the other."""


async def offload(size: int, seconds: float, work: Callable[..., T], *arguments: object) -> T:
    """Return the result of *work*, which runs in a thread if it handles more than SMALL_BYTES.

    Args:
        size: Bytes that *work* handles.

    Raises:
        DeadlineExceeded: *work* did not finish within *seconds*.
    """
    if size <= SMALL_BYTES:
        return work(*arguments)
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(THREAD, work, *arguments)
    except TimeoutError:
        raise DeadlineExceeded from None


def check_json(content: bytes) -> str:
    """Return why *content* is too large to be parsed as JSON, or an empty text.

    A list or object of two bytes becomes hundreds of bytes in memory. So this function counts them before a parser
    reads them: first everywhere, and then, if there are too many, outside of strings. The count is wrong after a
    syntax error, but no parser reads past that.
    """
    containers, values = _count_json(content)
    if containers <= MAX_CONTAINERS and values <= MAX_VALUES:
        return ""
    unescaped = content.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') <= 2 * MAX_VALUES:
        containers, values = _count_json(b"".join(unescaped.split(b'"')[::2]))
    if containers <= MAX_CONTAINERS and values <= MAX_VALUES:
        return ""
    return f"got more than {MAX_CONTAINERS} lists and objects, or {MAX_VALUES} values, in JSON; send tensors as bytes"


def _count_json(content: bytes) -> tuple[int, int]:
    containers = content.count(b"[") + content.count(b"{")
    return containers, containers + content.count(b",")

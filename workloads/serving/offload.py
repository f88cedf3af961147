"""Work on large bodies beside the event loop, which goes on answering other clients, with a bound on their JSON."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from workloads.serving.batcher import Late

T = TypeVar("T")
SMALL_BYTES = 64 << 10
"""Bytes up to which a body is worked on in the event loop: a change of threads would take longer."""
CONTAINERS, VALUES = 1 << 16, 1 << 21
"""The most lists and objects, and the most values, that a body has as JSON. Parsed they take 150 MB in all."""
_THREAD = ThreadPoolExecutor(1, "bodies")


async def offload(size: int, seconds: float, work: Callable[..., T], *arguments: object) -> T:
    """Return what *work* returns, called in a thread where it works on more than SMALL_BYTES.

    There is one such thread, so that large bodies take memory one after the other.

    Args:
        size: Bytes that it works on.

    Raises:
        Late: it had no turn, or no end, within *seconds*.
    """
    if size <= SMALL_BYTES:
        return work(*arguments)
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(_THREAD, work, *arguments)
    except TimeoutError:
        raise Late from None


def check_json(content: bytes) -> str:
    """Return why *content* is too much to be parsed as JSON; nothing if it is not.

    Each list or object of two bytes becomes hundreds in memory. So what makes them is counted before a parser sees
    them: first everywhere, and where that is too much, outside of texts. Behind an error of syntax the count is of no
    use, and no parser gets there.
    """
    containers, values = _counts(content)
    if containers <= CONTAINERS and values <= VALUES:
        return ""
    unescaped = content.replace(rb"\\", b"").replace(rb"\"", b"")
    if unescaped.count(b'"') <= 2 * VALUES:
        containers, values = _counts(b"".join(unescaped.split(b'"')[::2]))
    if containers <= CONTAINERS and values <= VALUES:
        return ""
    return (
        f"as JSON it has more than {CONTAINERS} lists and objects, or more than {VALUES} values; send tensors as bytes"
    )


def _counts(content: bytes) -> tuple[int, int]:
    containers = content.count(b"[") + content.count(b"{")
    return containers, containers + content.count(b",")

"""The loader of large objects: several requests at once for parts of one object, whose digest follows in order."""

import contextlib
import hashlib
import mmap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from rackwright.tiering.bucket import Bucket
from rackwright.tiering.meter import Meter

STREAMS = 8
PART_BYTES = 16 << 20
BUFFER_BYTES = 256 << 10
"""Bytes of one copy from a stream, which stay in the processor's cache."""
Put = Callable[[int, memoryview], object]
"""A function that keeps bytes of an object from an offset on."""


class ObjectChanged(Exception):
    """The object has another size, or a part of it ended early."""


def fetch(bucket: Bucket, key: str, size: int, to: Put | memoryview, meter: Meter) -> Iterator[tuple[int, int]]:
    """Pass the object *key* on, and yield the first and last byte of each part, in order, when it is complete.

    Args:
        size: Bytes of the object.
        to: A function that keeps each block, or memory of that size.

    Raises:
        ObjectChanged: the object has another size.
        EndpointUnreachable: a part did not come in time.
        botocore.exceptions.ClientError: the store refuses a request, or has no such object.
    """
    parts = [(first, min(first + PART_BYTES, size)) for first in range(0, size, PART_BYTES)]

    def get(part: tuple[int, int]) -> tuple[int, int]:
        _get(bucket, key, size, part, to, meter)
        return part

    with ThreadPoolExecutor(STREAMS) as pool:
        futures = [pool.submit(get, part) for part in parts]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def load(bucket: Bucket, key: str, size: int, meter: Meter) -> tuple[mmap.mmap, str]:
    """Return the object *key* in memory, with its SHA-256.

    Args:
        size: Bytes of the object, at least 1.

    Raises:
        ObjectChanged: the object has another size.
        EndpointUnreachable: a part did not come in time.
        botocore.exceptions.ClientError: the store refuses a request, or has no such object.
    """
    memory, digest = _allocate(size), hashlib.sha256()
    view = memoryview(memory)
    for first, last in fetch(bucket, key, size, view, meter):
        digest.update(view[first:last])
    return memory, digest.hexdigest()


def _allocate(size: int) -> mmap.mmap:
    """Return empty memory with all its pages.

    The first use of each page costs a fault: for 268 MB, 0.22 s of a processor in a shared mapping, which is Python's
    default, 0.15 s in a private one, and 0.12 s if the kernel makes all pages at once. Huge pages cost 0.03 s in memory
    that the process has just freed, and 0.5 s where the kernel compacts memory that is full of cached files.
    """
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)


def _get(bucket: Bucket, key: str, size: int, part: tuple[int, int], to: Put | memoryview, meter: Meter) -> None:
    first, last = part
    answer = bucket.client.get_object(Bucket=bucket.name, Key=key, Range=f"bytes={first}-{last - 1}")
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with contextlib.closing(answer["Body"]) as body, bucket.in_time(body, key, last - first, meter):
        if answer.get("ContentRange", "") != f"bytes {first}-{last - 1}/{size}":
            raise ObjectChanged(key)
        while first < last:
            length = min(BUFFER_BYTES, last - first)
            block = to[first : first + length] if isinstance(to, memoryview) else buffer[:length]
            count = body.readinto(block)
            if not count:
                raise ObjectChanged(key)
            meter.limiter.wait(count)
            if not isinstance(to, memoryview):
                to(first, block[:count])
            meter.add(count)
            first += count

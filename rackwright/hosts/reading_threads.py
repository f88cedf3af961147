"""Threads that read from hosts and endpoints, for which no command waits after Ctrl-C."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def reading_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool of *count* threads, which have ended after the block.

    After Ctrl-C or another signal they go on until the process ends: reading a host can take minutes, and changes
    nothing.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except Exception:
        pool.shutdown(cancel_futures=True)
        raise
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()

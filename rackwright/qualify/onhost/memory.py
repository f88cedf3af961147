"""Runs on the host: how fast its processors copy from memory to memory, all of them at once.

As STREAM's Copy does it: what is read and what is written both count, and the buffers are four times as large as the
caches together. A process for each processor, bound to it before it touches its buffers, so that they lie in its own
part of the memory. The copy is the C library's.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import sys
import time
from pathlib import Path
from typing import BinaryIO

CPUS = Path("/sys/devices/system/cpu")
TIMES_CACHE = 4
"""Source: STREAM's run rules, on the size of its arrays."""
SHARE_OF_MEMORY = 4
"""No more than this part of what is available is taken."""
LEAST_BYTES = 16 << 20
"""Of a buffer, where no cache is told of."""


def main(seconds: float) -> dict[str, float | int]:
    """Return what was copied in so many *seconds*: bytes a second, processors, and the size of all buffers."""
    processors = sorted(os.sched_getaffinity(0))
    caches, available = cache_bytes(processors), available_bytes()
    wanted = max(TIMES_CACHE * caches // (2 * len(processors)), LEAST_BYTES)
    size = min(wanted, available // SHARE_OF_MEMORY // (2 * len(processors))) // mmap.PAGESIZE * mmap.PAGESIZE
    if size < mmap.PAGESIZE:
        sys.exit(f"only {available} bytes of memory are available")
    children = [start(processor, size, seconds) for processor in processors]
    for _, _, answers in children:
        answers.readline()  # its buffers are there
    for _, go, _ in children:
        go.write(b"\n")
        go.close()
    rates = [float(answers.readline() or "nan") for _, _, answers in children]
    for child, _, _ in children:
        os.waitpid(child, 0)
    if any(rate != rate for rate in rates):
        sys.exit("a process that copies was ended from outside")
    return {
        "bytes_per_second": sum(rates),
        "processors": len(processors),
        "buffer_bytes": 2 * size * len(processors),
        "cache_bytes": caches,
    }


def start(processor: int, size: int, seconds: float) -> tuple[int, BinaryIO, BinaryIO]:
    """Return a process on *processor* that is about to copy, its start signal, and where its answers are read."""
    go_read, go_write = os.pipe()
    answer_read, answer_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(go_write)
            with os.fdopen(go_read, "rb") as go, os.fdopen(answer_write, "wb", 0) as answers:
                copy(processor, size, seconds, go, answers)
        finally:
            os._exit(0)
    os.close(go_read)
    os.close(answer_write)
    return child, os.fdopen(go_write, "wb"), os.fdopen(answer_read, "rb")


def copy(processor: int, size: int, seconds: float, go: BinaryIO, answers: BinaryIO) -> None:
    """Copy for so many *seconds* once *go* says so, and tell *answers* how many bytes a second were moved."""
    os.sched_setaffinity(0, {processor})
    source, target = (ctypes.c_char.from_buffer(mmap.mmap(-1, size)) for _ in range(2))
    for buffer in (source, target):
        ctypes.memset(ctypes.addressof(buffer), 1, size)  # untouched pages would all be the one of zeros
    answers.write(b"ready\n")
    if not go.readline():
        return
    began, copies = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds or copies == 0:
        ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), size)
        copies += 1
    answers.write(f"{2 * size * copies / elapsed}\n".encode())


def cache_bytes(processors: list[int]) -> int:
    """Return the size of the last caches of *processors*, each once; 0 where the kernel tells none."""
    found: dict[str, int] = {}
    for processor in processors:
        levels = sorted((CPUS / f"cpu{processor}/cache").glob("index[0-9]*"), key=lambda path: int(path.name[5:]))
        for level in levels[-1:]:
            try:
                size, shared = (level / "size").read_text().strip(), (level / "shared_cpu_list").read_text().strip()
            except OSError:
                continue
            if told := re.fullmatch(r"(\d+)([KM])", size):
                found[shared] = int(told[1]) << (10 if told[2] == "K" else 20)
    return sum(found.values())


def available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]))))

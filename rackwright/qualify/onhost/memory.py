"""The program that measures on the host how fast all processors together copy from memory to memory.

Like STREAM's Copy, it counts both read and written bytes, and its buffers are four times as large as all caches
together. Each processor has a process that is bound to it before its first access, so that the buffers are in local
memory. The copy is memmove of the C library.
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
CACHE_MULTIPLE = 4
"""Ratio of all buffers to all caches. Source: STREAM's run rules, on the size of its arrays."""
MEMORY_DIVISOR = 4
"""Divisor of the available memory, which gives the maximum size of all buffers."""
MINIMUM_BYTES = 16 << 20
"""Minimum size of a buffer, for hosts that report no cache."""


def main(seconds: float) -> dict[str, float | int]:
    """Return the copied bytes per second, the number of processors, and the total sizes of buffers and caches."""
    processors = sorted(os.sched_getaffinity(0))
    caches, available = cache_bytes(processors), available_bytes()
    target_size = max(CACHE_MULTIPLE * caches // (2 * len(processors)), MINIMUM_BYTES)
    size = min(target_size, available // MEMORY_DIVISOR // (2 * len(processors))) // mmap.PAGESIZE * mmap.PAGESIZE
    if size < mmap.PAGESIZE:
        sys.exit(f"only {available} bytes of memory are available")
    children = [start(processor, size, seconds) for processor in processors]
    for _, _, answers in children:
        answers.readline()  # the process has its buffers
    for _, go, _ in children:
        go.write(b"\n")
        go.close()
    rates = [float(answers.readline() or "nan") for _, _, answers in children]
    for child, _, _ in children:
        os.waitpid(child, 0)
    if any(rate != rate for rate in rates):
        sys.exit("a copying process was killed")
    return {
        "bytes_per_second": sum(rates),
        "processors": len(processors),
        "buffer_bytes": 2 * size * len(processors),
        "cache_bytes": caches,
    }


def start(processor: int, size: int, seconds: float) -> tuple[int, BinaryIO, BinaryIO]:
    """Return the id of a process that is ready to copy on *processor*, its start pipe, and its answer pipe."""
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
    """Copy during *seconds* after a line on *go*, and write the bytes per second to *answers*."""
    os.sched_setaffinity(0, {processor})
    source, target = (ctypes.c_char.from_buffer(mmap.mmap(-1, size)) for _ in range(2))
    for buffer in (source, target):
        ctypes.memset(ctypes.addressof(buffer), 1, size)  # untouched pages would all be the same zero page
    answers.write(b"ready\n")
    if not go.readline():
        return
    began, copies = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < seconds or copies == 0:
        ctypes.memmove(ctypes.addressof(target), ctypes.addressof(source), size)
        copies += 1
    answers.write(f"{2 * size * copies / elapsed}\n".encode())


def cache_bytes(processors: list[int]) -> int:
    """Return the total size of the last-level caches of *processors*, each once; 0 if the kernel reports none."""
    sizes: dict[str, int] = {}
    for processor in processors:
        levels = sorted((CPUS / f"cpu{processor}/cache").glob("index[0-9]*"), key=lambda path: int(path.name[5:]))
        for level in levels[-1:]:
            try:
                size, cpus = (level / "size").read_text().strip(), (level / "shared_cpu_list").read_text().strip()
            except OSError:
                continue
            if match := re.fullmatch(r"(\d+)([KM])", size):
                sizes[cpus] = int(match[1]) << (10 if match[2] == "K" else 20)
    return sum(sizes.values())


def available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]))))

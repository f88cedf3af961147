"""The cost of writes that are on the drive before a store acknowledges them: `python -m benchmarks.store_writes`.

Two stores (SeaweedFS on loopback) take the same objects in turns, each on a drive in a file: one with the attribute S
that role object_store sets, and one that leaves the writes to the kernel. Needs root, for the drives.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import start

ROUNDS = 15
FILESYSTEMS: tuple[str, ...] = ("ext4", "xfs")
SIZES = {"4 KiB": 4 << 10, "1 MiB": 1 << 20, "16 MiB": 16 << 20}
"""Of one object; an upload of tier move has parts of 16 MiB."""
SYNCHRONOUS, BUFFERED = "synchronous", "buffered"


def main() -> None:
    from tests.support.store_cuts import machines

    prepare: dict[str, Callable[[Path], Any]] = {SYNCHRONOUS: _set_attribute, BUFFERED: lambda directory: None}
    medians: dict[str, dict[str, dict[str, float]]] = {}
    for filesystem in FILESYSTEMS:
        with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as scratch, ExitStack() as stack:
            stores = {}
            for way, function in prepare.items():
                directory = Path(scratch) / way
                directory.mkdir()
                stores[way] = stack.enter_context(machines(directory, filesystem, 1, function)).client()
            medians[filesystem] = {name: _measure(stores, name, size) for name, size in SIZES.items()}
    ratios = {
        filesystem: {name: round(of[SYNCHRONOUS] / of[BUFFERED], 2) for name, of in sizes.items()}
        for filesystem, sizes in medians.items()
    }
    for filesystem, sizes in medians.items():
        for name, of in sizes.items():
            times = ", ".join(f"{way} {seconds * 1000:.1f} ms" for way, seconds in of.items())
            print(f"{filesystem}, objects of {name}: {times}, ratio {ratios[filesystem][name]}")
    print(json.dumps({"ratios": ratios, "seconds": medians}))


def _measure(stores: dict[str, Any], name: str, size: int) -> dict[str, float]:
    """Return the median of the seconds of one upload to each of *stores*, which take turns."""
    seconds: dict[str, list[float]] = {way: [] for way in stores}
    for number in range(ROUNDS + 1):
        content = os.urandom(size)
        for way, client in stores.items():
            began = time.perf_counter()
            client.put_object(Bucket="models", Key=f"{name}/{number}", Body=content)
            if number:  # the first one makes connections
                seconds[way].append(time.perf_counter() - began)
    return {way: statistics.median(of) for way, of in seconds.items()}


def _set_attribute(directory: Path) -> None:
    """Run the program of the role."""
    program = Path(__file__).parents[1] / "roles/object_store/templates/opt/rackwright/object_store/synchronous.py.j2"
    text = program.read_text().split("\n", 1)[1]  # the first line names the host
    subprocess.run((sys.executable, "-c", text, str(directory)), check=True, capture_output=True)


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": 1, "FILESYSTEMS": ("ext4",), "SIZES": {"4 KiB": 4096}}))

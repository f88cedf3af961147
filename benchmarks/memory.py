"""Whether a server's memory stays what it is under load: `python -m benchmarks.memory [SECONDS]`.

16 clients ask for so long, in parts; the last line has what the process had after the first part and after the last.
"""

import json
import subprocess
import tempfile
from pathlib import Path

from benchmarks import start
from benchmarks.peers.servers import ours, running
from benchmarks.serving import PORT, ask, generator, model

SECONDS, PARTS = 300, 10
MOST = 0.05
"""By which share it may have grown."""


def main(seconds: str = "") -> int:
    """Return 0 if it has not grown, else 1."""
    load, each_seconds = generator(), int(seconds or SECONDS) // PARTS
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        scratch = Path(directory)
        own = ours(model(scratch), PORT)
        with running(own, PORT, scratch / "log") as server:
            sizes, asked = [], 0.0
            for _ in range(PARTS):
                asked += ask(load, own, scratch, each_seconds)["per_second"] * each_seconds
                sizes.append(_resident_bytes(server))
    growth = sizes[-1] / sizes[0] - 1
    sizes_mb = {"first_mb": round(sizes[0] / 1e6, 1), "last_mb": round(sizes[-1] / 1e6, 1), "growth": round(growth, 4)}
    print(json.dumps({**sizes_mb, "requests": round(asked), "seconds": each_seconds * PARTS}))
    return 0 if growth <= MOST else 1


def _resident_bytes(process: "subprocess.Popen[bytes]") -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


if __name__ == "__main__":
    start(main, (globals(), {"SECONDS": 2, "PARTS": 2, "MOST": 10}))

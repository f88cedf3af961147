"""Requests per second of our server and of others, with the same model, cores and load.

    python -m benchmarks.serving [SECONDS]

The model is the digits in 8 bits, trained here first. bombardier asks with 16 connections; servers take turns, in both
orders.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks import start
from benchmarks.peers.servers import Peer, ours, peers, running
from rackwright.toolchain import cache, workloads

LOAD = Path(__file__).parent / "load"
BOMBARDIER = "github.com/codesenberg/bombardier"
CLIENTS, ROUNDS, SECONDS, WARM_UP_SECONDS = 16, 3, 60, 5
PORT = 18780
OTHERS = True
"""Whether other servers are measured as well, each in an environment of 200 MB."""


def main(seconds: str = "") -> None:
    load, results = generator(), dict[str, list[dict[str, float]]]()
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        scratch = Path(directory)
        digits = model(scratch)
        servers = peers(digits, scratch, PORT) if OTHERS else (ours(digits, PORT),)
        for number in range(ROUNDS):
            for peer in servers if number % 2 == 0 else reversed(servers):
                with running(peer, PORT, scratch / f"{peer.name}.log"):
                    ask(load, peer, scratch, WARM_UP_SECONDS)
                    figures = ask(load, peer, scratch, int(seconds or SECONDS))
                results.setdefault(peer.name, []).append(figures)
                _say(f"round {number + 1}: {peer.name} {figures}")
    report(results)


def generator() -> Path:
    """Return bombardier, built first from the module beside this file if need be."""
    key = sha256((LOAD / "go.sum").read_bytes()).hexdigest()[:16]
    program = cache.directory() / "load" / key / "bombardier"
    if not program.exists():
        caches = {"GOCACHE": str(cache.directory() / "go/build"), "GOMODCACHE": str(cache.directory() / "go/modules")}
        environment = {**caches, **os.environ, "GOFLAGS": "-modcacherw", "GOWORK": "off", "CGO_ENABLED": "0"}
        argv = ["go", "build", "-mod=readonly", "-buildvcs=false", f"-o={program}", BOMBARDIER]
        subprocess.run(argv, cwd=LOAD, env=environment, check=True)
    return program


def model(scratch: Path) -> Path:
    """Return the digits, trained and quantised here."""
    python = str(workloads.ensure(_say).python)
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    training, out = str(scratch / "training"), scratch / "model"
    train = (python, "-m", "workloads.training", "digits", "--out", training)
    given = ("--data", "digits", "--target", "cpu", "--publish-slower", "a benchmark", "--out", str(out))
    quantize = (python, "-m", "workloads.quantize", training, *given)
    for argv in (train, quantize):
        subprocess.run(argv, env=own, stdout=subprocess.DEVNULL, check=True)
    return out


def ask(load: Path, peer: Peer, scratch: Path, seconds: int) -> dict[str, float]:
    """Ask for so long, and return requests per second that were answered with 200, and the 99th percentile in ms."""
    body = scratch / "body.json"
    body.write_text(peer.body)
    argv = [
        *(str(load), f"--connections={CLIENTS}", f"--duration={seconds}s", "--method=POST", f"--body-file={body}"),
        *("--header=Content-Type: application/json", "--latencies", "--format=json", "--print=result"),
        f"http://127.0.0.1:{PORT}{peer.path}",
    ]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)["result"]
    others = sum(result[name] for name in ("req1xx", "req3xx", "req4xx", "req5xx", "others"))
    if others:
        raise RuntimeError(f"{peer.name}: {others} of {result['req2xx']} were not answered: {result.get('errors')}")
    return {
        "per_second": round(result["req2xx"] / result["timeTakenSeconds"], 1),
        "p99_ms": round(result["latency"]["percentiles"]["99"] / 1000, 2),
    }


def report(results: dict[str, list[dict[str, float]]]) -> None:
    """Print the medians, and how many times as many requests ours answers; the last line is for machines."""
    medians = {
        name: {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        for name, rounds in results.items()
    }
    own = medians["rackwright"]["per_second"]
    ratios = {name: round(own / figures["per_second"], 2) for name, figures in medians.items() if name != "rackwright"}
    print(f"{os.cpu_count()} cores, {cpu()}; {CLIENTS} clients, medians of {ROUNDS} rounds")
    for name, figures in medians.items():
        print(f"{name:<12} {figures['per_second']:8.1f} requests/s   p99 {figures['p99_ms']:6.2f} ms")
    print(json.dumps({"medians": medians, "ratios": ratios}))


def cpu() -> str:
    """Return the processor's name and those of its flags that matter to a model."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = [flag for flag in found.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))]
    return f"{found.get('model name', 'unknown')} ({' '.join(flags)})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": 1, "SECONDS": 1, "WARM_UP_SECONDS": 1, "OTHERS": False}))

"""Measure our server in front of vLLM, beside LiteLLM's proxy: `python -m benchmarks.forwarding`.

64 streams at once go to vLLM itself, through our server, and through LiteLLM, in turns. First vLLM is a real one with a
small model on the processor. Then a program that computes nothing stands for it and writes events at a fixed rate:
a model on a processor does not write as many. Processor time is that of the proxy alone, or of the real vLLM's
processes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import start
from benchmarks.peers.servers import HERE, ROOT
from benchmarks.serving import cpu
from rackwright.toolchain import workloads
from tests.support.expect import eventually
from tests.support.log import Log
from tests.support.models.vllm_server import python, served
from tests.support.processes import command_line, cpu_seconds, tree

STREAMS, TOKENS, ROUNDS, PER_SECOND = 64, 32, 3, 30
REAL, OTHERS = True, True
"""Whether a real vLLM and LiteLLM are measured as well."""
PORTS = {"vllm": 18790, "rackwright": 18791, "litellm": 18792}
LITELLM = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}  # fmt: skip
"""Variables with which LiteLLM fetches nothing, and asks for no key, as our server does here."""
Figures = dict[str, float]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-") as directory:
        scratch, results = Path(directory), {}
        if REAL:
            with served(Log("bench.forwarding"), parallel=STREAMS) as (reach, _):
                bridge = [sys.executable, str(HERE / "bridge.py"), reach["socket"], str(PORTS["vllm"])]
                with process(bridge, scratch, _is_open("vllm")):
                    results["vLLM on the processor"] = measure(reach["socket"], reach["key"], scratch)
        path = str(scratch / "socket")
        fake = [sys.executable, str(HERE / "fake_vllm.py"), path, str(PORTS["vllm"]), str(PER_SECOND)]
        with process(fake, scratch, _is_open("vllm")):
            results["a stand-in that computes nothing"] = measure(path, "none", scratch)
    report(results)


def measure(socket: str, key: str, scratch: Path) -> dict[str, Figures]:
    """Return the medians of each way to the vLLM behind *socket*."""
    environment = {**os.environ, **LITELLM, "VLLM_API_KEY": key, "PYTHONPATH": str(ROOT)}
    # the real vLLM's first process, below the server of the check; the stand-in computes nothing worth a figure
    owners = [pid for pid in tree(os.getpid()) if socket in command_line(pid) and "serve" in command_line(pid)]
    with ExitStack() as stack:
        front = [_python(), str(HERE / "front.py"), socket, str(PORTS["rackwright"])]
        ways = {"alone": (socket, owners)}
        own = stack.enter_context(process(front, scratch, _is_open("rackwright"), environment))
        ways["rackwright"] = (str(PORTS["rackwright"]), [own])
        if OTHERS:
            litellm = stack.enter_context(process(_litellm(scratch, key), scratch, _is_open("litellm"), environment))
            ways["litellm"] = (str(PORTS["litellm"]), [litellm])
        found: dict[str, list[Figures]] = {}
        for number in range(-1, ROUNDS):  # the first round warms all of them
            for name, (where, processes) in ways.items() if number % 2 else reversed(ways.items()):
                figures = _load(where, processes, environment)
                _say(f"round {number + 1}, {name}: {figures}")
                if number >= 0:
                    found.setdefault(name, []).append(figures)
    return {name: {key: statistics.median(of[key] for of in each) for key in each[0]} for name, each in found.items()}


def _load(where: str, processes: list[int], environment: dict[str, str]) -> Figures:
    """Return what one round of streams took, and the processor time of *processes* for a token."""
    pids = sorted({each for pid in processes for each in tree(pid)})
    before = cpu_seconds(pids)
    argv = [_python(), str(HERE / "stream_load.py"), where, str(STREAMS), str(TOKENS)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    first = sorted(found["first_ms"])
    return {
        "cpu_us_per_token": 1e6 * (cpu_seconds(pids) - before) / (STREAMS * TOKENS),
        "first_ms": statistics.median(first), "first_p99_ms": first[-1 - len(first) // 100],
        "per_second": STREAMS * TOKENS / found["seconds"],
    }  # fmt: skip


@contextmanager
def process(
    argv: list[str], scratch: Path, ready: Callable[[], bool], environment: dict[str, str] | None = None
) -> Iterator[int]:
    """Run a program until the block ends, and yield its id."""
    with (scratch / f"{Path(argv[1]).name}.log").open("w") as log:
        running = subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=scratch)
        try:
            eventually(ready, f"{argv[1]} is ready: see {log.name}")
            yield running.pid
        finally:
            running.kill()
            running.wait()


def _litellm(scratch: Path, key: str) -> list[str]:
    python = workloads.ensure_lock("litellm", HERE / "litellm.txt", "500 MB on the drive", _say).python
    backend = {"model": "hosted_vllm/tiny", "api_base": f"http://127.0.0.1:{PORTS['vllm']}/v1", "api_key": key}
    config = scratch / "litellm.json"
    config.write_text(json.dumps({"model_list": [{"model_name": "tiny", "litellm_params": backend}]}))
    options = ["--host", "127.0.0.1", "--port", str(PORTS["litellm"]), "--telemetry", "False"]
    return [str(python), str(python.with_name("litellm")), "--config", str(config), *options]


def _is_open(name: str) -> Callable[[], bool]:
    def is_open() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORTS[name]}/health/liveliness", timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    return is_open


def report(results: dict[str, dict[str, Figures]]) -> None:
    """Print the medians; the last line is for machines."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {cpu()}; {STREAMS} streams of {TOKENS} tokens, "
          f"medians of {ROUNDS} rounds")  # fmt: skip
    for what, ways in results.items():
        print(f"{what}:")
        for name, of in ways.items():
            added = of["first_ms"] - ways["alone"]["first_ms"]
            print(f"  {name:<11} {of['cpu_us_per_token']:8.0f} us of processor time a token   first token "
                  f"{of['first_ms']:7.1f} ms ({added:+.1f}), 99th percentile {of['first_p99_ms']:7.1f} ms   "
                  f"{of['per_second']:7.0f} tokens/s")  # fmt: skip
    print(json.dumps(results))


def _python() -> str:
    """Return the Python of our server and of the load; a vLLM is not needed where a stand-in is measured alone."""
    return python(_say) if REAL else str(workloads.serving(_say).python)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": 1, "STREAMS": 2, "TOKENS": 4, "REAL": False, "OTHERS": False}))

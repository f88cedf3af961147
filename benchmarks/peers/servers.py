"""Servers of one model, each in an environment of its own: ours, LitServe and MLServer."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rackwright.toolchain import workloads

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ROWS = [[float((row + column) % 17) for column in range(8)] for row in range(8)]
V2 = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 8, 8], "data": [value for row in ROWS for value in row]}]
}
INFER = "/v2/models/digits/infer"
START_SECONDS = 120


@dataclass(frozen=True)
class Peer:
    """One server: how it is started on a port, where it says that it is ready, and how it is asked."""

    name: str
    argv: tuple[str, ...]
    ready: str
    path: str
    body: str
    settings: dict[str, str]


def ours(model: Path, port: int, *changes: str) -> Peer:
    """Return our server of a published model, its settings changed by *changes*."""
    python = str(workloads.serving(_say).python)
    given = [part for change in (f"port={port}", "threads=1", *changes) for part in ("--set", change)]
    argv = (python, "-m", "workloads.serving", str(model), *given)
    return Peer("rackwright", argv, "/ready", INFER, json.dumps(V2), {"PYTHONPATH": str(ROOT)})


def peers(model: Path, scratch: Path, port: int) -> tuple[Peer, ...]:
    """Return ours and the others, each in the configuration that was the fastest here of those it documents.

    Args:
        model: A published model with one file, ``model.onnx``.
    """
    lit, ml = _python("litserve"), _python("mlserver")
    onnx = str(model / "model.onnx")
    (scratch / "mlserver").mkdir()
    ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    # batches make it no faster here, and its 99th percentile is four times as long; with workers it does not start
    settings = {**ports, "parallel_workers": 0, "debug": False}
    (scratch / "mlserver" / "settings.json").write_text(json.dumps(settings))
    of_model = {"name": "digits", "implementation": "by_mlserver.Digits", "parameters": {"uri": onnx}}
    (scratch / "mlserver" / "model-settings.json").write_text(json.dumps(of_model))
    by_litserve = (str(lit), str(HERE / "by_litserve.py"), onnx, str(port))
    by_mlserver = (str(ml.with_name("mlserver")), "start", str(scratch / "mlserver"))
    return (
        ours(model, port),
        Peer("litserve", by_litserve, "/health", "/predict", json.dumps({"x": ROWS}), {}),
        Peer("mlserver", by_mlserver, "/v2/health/ready", INFER, json.dumps(V2), {"PYTHONPATH": str(HERE)}),
    )


@contextmanager
def running(peer: Peer, port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run *peer* until the block ends, and all of its processes with it; its first one is given."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **peer.settings}
    with log.open("w") as output:
        server = subprocess.Popen(
            peer.argv, env=environment, cwd=log.parent, stdout=output, stderr=output, start_new_session=True
        )
        try:
            _await(server, f"http://127.0.0.1:{port}{peer.ready}", log)
            yield server
        finally:
            # LitServe leaves its workers behind when it is asked to stop
            os.killpg(server.pid, 9)
            server.wait()


def _await(server: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"it does not get ready: {log.read_text()[-500:]}")


def _python(name: str) -> Path:
    return workloads.ensure_lock(name, HERE / f"{name}.txt", "200 MB on the drive", _say).python


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

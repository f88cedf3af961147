"""Request bodies that cost memory and time: the model server answers all other clients."""

import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.tiny_server_lab import tiny_models
from tests.support.workloads import python

INFER, SIZE = "/v2/models/digits/infer", "Inference-Header-Content-Length"
MEMORY_MB = 400
"""More than the server had before all of them."""
HEAD = '{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],'
LARGE = 16 * 10**6
"""Bytes of what has to be as large as a body can be."""


def attacks() -> Mapping[str, tuple[bytes, dict[str, str]]]:
    """Return bodies, with their headers, by what they are made of."""
    texts = json.dumps(["x" * 100_000, *[""] * 40_000])
    contents = {
        "one long text and many short ones": f'{HEAD}"data":{texts}}}]}}',
        "empty lists": f'{HEAD}"data":[{"[]," * (LARGE // 3)}[]]}}]}}',
        "nested lists": f'{HEAD}"data":[{"[[[[[[[[]]]]]]]]," * (LARGE // 17)}[]]}}]}}',
        "numbers": f'{HEAD}"data":[{"1," * (LARGE // 2)}1]}}]}}',
        "inputs that are none": f'{{"inputs":[{"1," * (LARGE // 2)}1]}}',
        "objects nobody asked for": f'{{"more":[{"{}," * (LARGE // 3)}1]}}',
        "a shape of 10^60": '{"inputs":[{"name":"x","datatype":"FP32","shape":[1' + "0" * 60 + ',2],"data":[1,2]}]}',
    }
    bodies = {name: (text.encode(), dict[str, str]()) for name, text in contents.items()}
    for size in (-1, 1 << 62, 10**30):
        text = f'{HEAD}"parameters":{{"binary_data_size":{size}}}}}]}}'.encode()
        bodies[f"a tensor of {size} bytes"] = (text + b"12345678", {SIZE: str(len(text))})
    return bodies


@line("hardening", 5)
def test_a_hostile_body_delays_no_other_client(log: Log) -> str:
    """A server in a process of its own, each attack twice at once, /health asked all the time."""
    directory = log.empty_directory()
    tiny_models(log, directory)
    with _server(log, directory / "first") as (process, port):
        before, slowest, stop = _peak(process), [0.0], threading.Event()
        log("asking with every attack")

        def healthy() -> None:
            while not stop.is_set():
                began = time.monotonic()
                status, _ = _ask(port, "GET", "/health")
                need(status == 200, f"/health answers {status}")
                slowest[0] = max(slowest[0], time.monotonic() - began)

        asking = threading.Thread(target=healthy)
        asking.start()
        try:
            for name, (body, headers) in attacks().items():
                got: list[tuple[int, str]] = []
                both = [threading.Thread(target=lambda: got.append(_ask(port, "POST", INFER, body, headers)))  # noqa: B023
                        for _ in range(2)]  # fmt: skip
                for thread in both:
                    thread.start()
                for thread in both:
                    thread.join()
                need([status for status, _ in got] == [400, 400], f"{name}: got {got}")
                need(all(len(content) < 4096 for _, content in got), f"{name}: an answer of {len(got[0][1])} bytes")
        finally:
            stop.set()
            asking.join()
        taken = (_peak(process) - before) / 1024
        need(taken < MEMORY_MB, f"they took {taken:.0f} MB")
        status, report = _ask(port, "POST", INFER, (HEAD + '"data":[1,2]}]}').encode())
        need(status == 200 and json.loads(report)["outputs"][0]["data"] == [1.0, 2.0], f"afterwards: {status} {report}")
    return (
        f"{len(attacks())} attacks of up to {LARGE / 1e6:.0f} MB, two at once, got 400 each and took {taken:.0f} MB;"
        f" /health answered all the time, after {slowest[0]:.1f} s at most"
    )


@contextmanager
def _server(log: Log, model: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    argv = [python(log), "-m", "workloads.serving", str(model), "--set", "port=0", "--set", "threads=1"]
    with log.path.open("a") as errors:
        process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ}, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout
        if not (line := process.stdout.readline()):
            pytest.fail("the server has not started; the log says why", pytrace=False)
        port = int(json.loads(line)["address"].rpartition(":")[2])
        threading.Thread(target=lambda: [log.write(line) for line in process.stdout or ()], daemon=True).start()
        eventually(lambda: _ask(port, "GET", "/ready")[0] == 200, "the server is ready")
        yield process, port
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _ask(port: int, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
         ) -> tuple[int, str]:  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _peak(process: subprocess.Popen[str]) -> int:
    """Return the most memory that *process* has had, in KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    if found is None:
        pytest.fail("the server has ended", pytrace=False)
    return int(found[1])

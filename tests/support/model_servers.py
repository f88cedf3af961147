"""Servers for the tests: of a real model in a process of their own, or of a runtime that a test holds in its hand."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.support.training_runs import ROOT, environment
from workloads.quantize.source import source
from workloads.serving.batcher import Arrays
from workloads.serving.keys import Key, Keys
from workloads.serving.model import Model, Tensor, publish
from workloads.serving.runtimes.runtime import InvalidPrompt, Piece, TextEnd
from workloads.serving.serve import DrainingServer
from workloads.serving.settings import ServingSettings
from workloads.training.__main__ import main as train

INFER = "/v2/models/{}/infer"
HELD = INFER.format("held")
"""Route of a request to the model of a `Held`."""
FAILS = np.float32(3e38)
"""A value that makes the model of a `Held` fail."""


def trained(directory: Path, *changes: str) -> Path:
    """Return the directory of a training of the digits, as `make train` does it, in this process and in seconds."""
    given = [argument for change in ("steps=100", *changes) for argument in ("--set", change)]
    assert train(["digits", "--out", str(directory), *given]) == 0
    return directory


def digits(directory: Path) -> Path:
    found = source(trained(directory / "training"), directory)
    files, published = {"model.onnx": found.path}, directory / "published"
    publish(published, files, found.name, found.inputs, found.outputs, found.lineage)
    return published


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


def ask(
    address: tuple[str, int], path: str, body: bytes | None = None, headers: dict[str, str] | None = None,
    method: str = "",
) -> Answer:  # fmt: skip
    """Ask over a connection of its own."""
    connection = HTTPConnection(*address, timeout=60)
    try:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        got = connection.getresponse()
        return Answer(got.status, {name.lower(): value for name, value in got.getheaders()}, got.read())
    finally:
        connection.close()


def request(array: np.ndarray, name: str = "x", **more: object) -> bytes:
    """Return *array* as a request in JSON."""
    tensor = {"name": name, "datatype": "FP32", "shape": list(array.shape), "data": array.ravel().tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


ONE = request(np.zeros((1, 2)))
"""A request of one row to the model of a `Held`."""


def eventually(holds: Callable[[], object]) -> None:
    """Return once it *holds*; a minute is far more than it takes."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it has not come true"
        time.sleep(0.01)


class Held:
    """A runtime that computes twice its input, each time a test lets it."""

    description = "a test"

    def __init__(self, model: Model | None = None) -> None:
        tensor = Tensor(name="x", datatype="FP32", shape=(-1, 2))
        self.model = model or Model(
            name="held", version="1", runtime="onnx", files={}, inputs=(tensor,),
            outputs=(tensor.model_copy(update={"name": "y"}),), lineage={"of": "a test"},
        )  # fmt: skip
        self.go = threading.Semaphore(0)
        self.began = threading.Semaphore(0)
        self.batches: list[int] = []

    def infer(self, inputs: Arrays) -> Arrays:
        self.batches.append(len(inputs["x"]))
        self.began.release()
        assert self.go.acquire(timeout=60)
        if (inputs["x"] == FAILS).any():
            raise RuntimeError("as a model fails")
        return {"y": inputs["x"] * 2}


class Writer:
    """A language model that writes a word each time a test lets it, and fails at that word."""

    description = "a test"
    prompt_tokens = 7

    def __init__(self, *words: str, free: bool = False) -> None:
        self.model = Model(name="held", version="1", runtime="llama.cpp", files={}, lineage={"of": "a test"})
        self.words = words or ("one", " two", " three")
        self.go = threading.Semaphore(10_000 if free else 0)
        self.began, self.left = threading.Semaphore(0), threading.Semaphore(0)
        self.wrote = threading.Semaphore(0)
        """Released after each word, so that a test knows which request it was for."""
        self.asked: list[Mapping[str, Any]] = []

    def generate(self, asked: Mapping[str, Any], on_piece: Callable[[Piece], bool]) -> None:
        self.asked.append(asked)
        self.began.release()
        if asked.get("prompt") == "too long":
            reason = "got a prompt of 9 tokens; a prompt and its answer have at most 8"
            raise InvalidPrompt(reason, "context_length_exceeded")
        on_piece(Piece("", prompt_tokens=self.prompt_tokens))
        for word in self.words:
            assert self.go.acquire(timeout=60)
            if word == "fail":
                raise RuntimeError("as a model fails")
            if not on_piece(Piece(word)):
                self.left.release()
                return
            self.wrote.release()
        on_piece(Piece("", TextEnd("stop", self.prompt_tokens, len(self.words))))


class Here:
    """A server in a thread of this process."""

    def __init__(self, runtime: Any, keys: Keys | None, settings: ServingSettings) -> None:
        self.log: list[dict[str, Any]] = []
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self._listening = socket.create_server((settings.host, 0), family=family)
        self.address: tuple[str, int] = self._listening.getsockname()[:2]
        self.server = DrainingServer(runtime, settings, keys or Keys(None), None, 0.0, self._say)
        self._thread = threading.Thread(target=self.server.run, args=([self._listening],))
        self._thread.start()
        eventually(lambda: self.server.started)

    def _say(self, event: str, **fields: Any) -> None:
        self.log.append({"event": event, **fields})

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The lines of the log about requests, in the order in which they were answered."""
        return [line for line in self.log if line["event"] == "request"]

    def figure(self, name: str) -> float:
        lines = ask(self.address, "/metrics").content.decode().splitlines()
        return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])

    def terminate(self) -> None:
        self.server.handle_exit(15, None)

    def ended(self) -> bool:
        return not self._thread.is_alive()

    def stop(self) -> None:
        if not self.ended():
            self.server.should_exit = True
            self._thread.join(60)
        assert self.ended()


@contextmanager
def here(runtime: Any, keys: Keys | None = None, **settings: object) -> Iterator[Here]:
    server = Here(runtime, keys, ServingSettings.model_validate({"port": 0, "drain_seconds": 0, **settings}))
    try:
        yield server
    finally:
        for _ in range(1000):  # whatever a failed test has left waiting
            getattr(runtime, "go", threading.Semaphore()).release()
        server.stop()


DAILY_SECRET = "k" * 40
DAILY = {"authorization": f"Bearer {DAILY_SECRET}"}
"""The header of a client with `daily_key`."""


def grpc_address(server: Here) -> str:
    """Wait until a server listens by gRPC, and return its address."""
    eventually(lambda: any(line["event"] == "listening" for line in server.log))
    [line] = [line for line in server.log if line["event"] == "listening"]
    return str(line["address"]).removeprefix("grpc://")


def daily_key(tokens_per_day: int) -> Key:
    digest = sha256(DAILY_SECRET.encode()).hexdigest()
    return Key(name="daily", sha256=digest, scopes=("infer", "metrics"), tokens_per_day=tokens_per_day)


def paid_tokens(server: Here) -> tuple[int, int]:
    """Return the tokens of prompts and of answers that `daily_key` has paid."""
    lines = ask(server.address, "/metrics", headers=DAILY).content.decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("rackwright_server_tokens_total"))
    prompt, answer = (
        f'rackwright_server_tokens_total{{key="daily",kind="{kind}"}}' for kind in ("prompt", "completion")
    )
    return int(float(found.get(prompt, "0"))), int(float(found.get(answer, "0")))


@contextmanager
def leaving(address: tuple[str, int], path: str, body: bytes) -> Iterator[HTTPConnection]:
    """Send a request with `daily_key`, whose client is gone after the block."""
    connection = HTTPConnection(*address, timeout=60)
    connection.request("POST", path, body, DAILY)
    try:
        yield connection
    finally:
        connection.close()


class Background:
    """Calls in threads of their own, and what came of them."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self.answers: list[Answer] = []

    def ask(self, *arguments: Any) -> None:
        thread = threading.Thread(target=lambda: self.answers.append(ask(*arguments)))
        self._threads.append(thread)
        thread.start()

    def all(self) -> list[Answer]:
        for thread in self._threads:
            thread.join(60)
        assert len(self.answers) == len(self._threads)
        return self.answers


class Process:
    """`python -m workloads.serving`, started, with what it says."""

    def __init__(self, model: Path, *changes: str) -> None:
        given = [argument for change in ("port=0", "threads=1", *changes) for argument in ("--set", change)]
        argv = [sys.executable, "-m", "workloads.serving", str(model), *given]
        self.process = subprocess.Popen(argv, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.log: list[dict[str, Any]] = []
        while (line := json.loads(self.process.stdout.readline()))["event"] != "started":
            self.log.append(line)
        self.started = line
        host, _, port = self.started["address"].rpartition("/")[2].rpartition(":")
        self.address = (host, int(port))
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,))
        self._reader.start()

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [line for line in self.log if line["event"] == "request"]

    def _read(self, lines: Any) -> None:
        self.log += map(json.loads, lines)

    def end(self) -> int:
        """Tell it to stop, and return its exit status."""
        self.process.terminate()
        status = self.process.wait(60)
        self._reader.join(60)
        return status


@contextmanager
def served(model: Path, *changes: str) -> Iterator[Process]:
    server = Process(model, *changes)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()

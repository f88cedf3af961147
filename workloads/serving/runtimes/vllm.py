"""vLLM: a language model on GPUs, in a process of its own that our server starts, watches and ends.

Nobody but this server asks it: it listens on a socket in a directory of ours, since its API key keeps nobody from
routes outside /v1, such as /invocations. Its options are those of `vllm serve` in vLLM 0.12 and later.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workloads.errors import WorkloadError
from workloads.serving.fit import SHARE_PERCENT
from workloads.serving.model import Model
from workloads.serving.runtimes.events import Events
from workloads.serving.runtimes.runtime import Lost, Piece, Unfit
from workloads.serving.settings import Settings

LAST_LINES = 8
"""Of what it said before it ended, told with its end."""
END_SECONDS = 20.0
"""How long it has for an orderly end, which frees its GPUs, before it is killed."""


class VllmRuntime:
    """A language model that vLLM goes on with a text by."""

    def __init__(self, directory: Path, model: Model, settings: Settings) -> None:
        """Return once vLLM is ready, however long that takes.

        Raises:
            WorkloadError: there is no vLLM here.
            Lost: it ends before it is ready.
        """
        self.model = model
        self._home = TemporaryDirectory(prefix="vllm-")  # nobody else may look into it
        self._door, self._key = Path(self._home.name) / "door.sock", secrets.token_hex(32)
        command = _command(directory, model.name, self._door, settings)
        self._process = _Process(command, _environment(Path(command[0]).parent, self._home.name, self._key))
        try:
            self._wait(directory)
            gpus = f"{settings.tensor_parallel} GPU{'s' if settings.tensor_parallel > 1 else ''}"
            self.told = f"vLLM {self._version()} on {gpus}"
        except BaseException:
            self.close()
            raise

    def lost(self) -> str | None:
        """Return what a person is told of its end, if it has ended."""
        return self._process.ended()

    def close(self) -> None:
        """End it, and all processes that it has started."""
        self._process.end()
        self._home.cleanup()

    def generate(self, asked: Mapping[str, Any], heard: Callable[[Piece], bool]) -> None:
        path = "/v1/chat/completions" if "messages" in asked else "/v1/completions"
        more = {"model": self.model.name, "stream": True, "stream_options": {"include_usage": True}}
        body, events = json.dumps({**asked, **more}), Events(heard, _failure)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        with closing(_Connection(self._door)) as connection:  # closed before its end, it writes no more of the text
            connection.request("POST", path, body, headers)
            with connection.getresponse() as answer:
                if answer.status != 200:
                    raise _refusal(answer.status, answer.read())
                for line in answer:
                    event = line.removeprefix(b"data:").strip()
                    if event.startswith(b"{") and not events.tell(json.loads(event)):
                        return
        if not events.ended:
            raise RuntimeError("vLLM left a text without its end")

    def _wait(self, directory: Path) -> None:
        while self._get("/health")[0] != 200:
            if ended := self._process.ended():
                want, fix = "it serves the model", "Mend what it says, or the settings that it follows from"
                raise Lost(str(directory), f"got {ended}", want, fix)
            time.sleep(0.1)

    def _version(self) -> str:
        status, content = self._get("/version")
        return str(json.loads(content)["version"]) if status == 200 else "of no version that it tells"

    def _get(self, path: str) -> tuple[int, bytes]:
        """Return its answer's status and content; 0 where there is none."""
        with suppress(OSError, HTTPException), closing(_Connection(self._door, timeout=10)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        return 0, b""


def _command(directory: Path, name: str, door: Path, settings: Settings) -> list[str]:
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.is_file() else shutil.which("vllm")
    if found is None:
        want = f"a model for vLLM takes its command, as {beside} or on PATH"
        fix = "Serve it in an environment with vLLM, which no role installs"
        raise WorkloadError("vllm", "got no such command", want, fix)
    return [
        found, "serve", str(directory.resolve()), "--served-model-name", name, "--uds", str(door),
        "--tensor-parallel-size", str(settings.tensor_parallel), "--max-model-len", str(settings.context_tokens),
        "--max-num-seqs", str(settings.parallel), "--load-format", "safetensors",
        "--gpu-memory-utilization", str(SHARE_PERCENT / 100),
        "--no-enable-log-requests", "--disable-uvicorn-access-log",
    ]  # fmt: skip


def _environment(beside: Path, home: str, key: str) -> dict[str, str]:
    """Return the environment of vLLM: as if that of Python's were activated, and it asks nobody outside.

    Args:
        home: Where it keeps what it compiles, if its account has no home.
    """
    told = {**os.environ, "PATH": f"{beside}:{os.environ.get('PATH', os.defpath)}"}
    if not os.access(told.get("HOME", ""), os.W_OK):
        told["HOME"] = home
    # on a command line everybody could read the key
    return {**told, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": key}


class _Process:
    """A command with the group of all that it starts, which says on stderr what it has to say."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        # told to end when the thread that starts it does, even by SIGKILL: then it is the first one of a server
        tied = ["setpriv", "--pdeathsig", "TERM", "--", *command]
        self._process = subprocess.Popen(
            tied, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._reader = threading.Thread(target=self._read, name="vllm", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            os.write(2, line)
            if said := line.decode(errors="replace").strip():
                self._last.append(said)

    def ended(self) -> str | None:
        status = self._process.poll()
        if status is None:
            return None
        self._reader.join(1)  # what it has started may still hold its output
        by = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"vLLM ended by {by}, having said: {' | '.join(self._last) or 'nothing'}"

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1)


class _Connection(HTTPConnection):
    """HTTP over the socket *door*."""

    def __init__(self, door: Path, timeout: float | None = None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._door = door

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._door))


def _refusal(status: int, content: bytes) -> Exception:
    try:
        return _failure(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return RuntimeError(f"vLLM answered {status}")


def _failure(error: Mapping[str, Any]) -> Exception:
    message = str(error.get("message"))
    if error.get("code") != 400:
        return RuntimeError(f"vLLM: {error.get('type')} {error.get('code')}")  # its message may have the prompt
    # it has no code of its own for this, and two sentences
    return Unfit(message, "context_length_exceeded" if "context length" in message else None)

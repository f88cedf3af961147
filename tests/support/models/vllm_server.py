"""Our server with a real vLLM on the processor, as acceptance lines and benchmarks start it."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import workloads
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.models.protocol_cases import ADAPTER, MODEL
from tests.support.processes import command_line, tree, variables

RANK = 8
"""Rank of the adapter."""


def python(progress: Progress) -> str:
    """Return the Python of an environment with vLLM: the one in RACKWRIGHT_VLLM, or ours, made if need be."""
    return os.environ.get("RACKWRIGHT_VLLM") or str(workloads.vllm(progress).python)


@contextmanager
def served(
    log: Log,
    parallel: int,
    has_adapter: bool = True,
    prepare: Callable[[Path], Path] | None = None,
    reads_adapters: bool = False,
) -> Iterator[tuple[dict[str, str], Path]]:
    """Serve a small model by our server with a real vLLM; yield how both are reached, and the file of their logs.

    Args:
        prepare: Makes another model of the one in a directory, and returns its directory.
        reads_adapters: Whether the adapter is in the file `adapters` of the yielded mapping, which the server reads
            again after a signal to the process `pid`.
    """
    directory, interpreter = log.empty_directory(), python(log)
    made = log.run([interpreter, "-m", "tests.support.models.tiny_llama", str(directory)])
    need(made.returncode == 0, f"the model cannot be made: {made.stderr[-300:]}")
    model = prepare(directory / MODEL) if prepare else directory / MODEL
    publish = [
        "-m",
        "workloads.serving.vllm",
        str(model),
        "--name",
        MODEL,
        "--out",
        f"{directory}/published",
    ]
    need(log.run([interpreter, *publish]).returncode == 0, "the model cannot be published")
    weights = (directory / ADAPTER / "adapter_model.safetensors").read_bytes()
    adapter = {"directory": str(directory / ADAPTER), "sha256": sha256(weights).hexdigest(), "rank": RANK}
    adapters = {ADAPTER: adapter} if has_adapter else {}
    vllm = {"cpu_cache_gib": 1, "tool_parser": "hermes", **({"adapters": adapters} if adapters else {})}
    path = directory / "adapters.json"
    if reads_adapters:
        path.write_text(json.dumps(adapters))
        vllm = {"cpu_cache_gib": 1, "adapters_file": str(path), "adapters_rank": RANK}
    settings = directory / "settings.json"
    settings.write_text(json.dumps({"port": 0, "context_tokens": 1024, "parallel": parallel, "vllm": vllm}))
    argv = [interpreter, "-m", "workloads.serving", f"{directory}/published", "--settings", str(settings)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    output = directory / "server.log"
    with output.open("wb") as file:
        server = subprocess.Popen(
            argv, cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=file, text=True
        )
        try:
            assert server.stdout
            log("vLLM starts, which takes one to three minutes")
            started = server.stdout.readline()
            need(started, f"the server does not start: {output.read_text()[-500:]}")
            process = next(pid for pid in tree(server.pid)[1:] if "--uds" in command_line(pid))
            words = command_line(process)
            reach = {"url": json.loads(started)["address"], "socket": words[words.index("--uds") + 1]}
            more = {"pid": str(server.pid), "adapters": str(path)} if reads_adapters else {}
            yield {**reach, "key": variables(process)["VLLM_API_KEY"], **more}, output
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                rest, _ = server.communicate(timeout=120)
            finally:
                server.kill()
            file.write(rest.encode())

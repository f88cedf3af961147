"""Training runs for the tests: in this process, or by a launcher in processes of their own."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from workloads.checkpoint import load, newest
from workloads.training.config import TrainingConfig
from workloads.training.load_config import load_config
from workloads.training.loop import RunContext
from workloads.training.metrics import MetricsLog
from workloads.training.precision import Precision
from workloads.training.workers.workers import Alone

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HOROVODRUN = ("horovod.runner.launch", "-np")
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")  # on a port that is free: others may test, too
"""The modules of horovodrun and torchrun, and the options before the number of processes."""
MODULE = "workloads.training"
QUICK = ("steps=12", "report_every_steps=4", "saving.every_steps=6", "model.channels=4")
"""Changes that make the digits a matter of seconds."""


def config(recipe: str = "digits", *changes: str) -> TrainingConfig:
    return load_config(recipe, [*(QUICK if recipe == "digits" else ()), *changes])


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process: of this one, with a thread for each process, as there are several."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def command(launcher: tuple[str, ...], processes: int, python: Path, *arguments: str) -> list[str]:
    """Return the command that starts *processes* of *python*; torchrun takes its name from the environment."""
    name = [] if launcher == TORCHRUN else [str(python)]
    return [str(python), "-m", *launcher, str(processes), *name, "-m", MODULE, *arguments]


def launched(
    launcher: tuple[str, ...],
    processes: int,
    out: Path,
    *changes: str,
    recipe: str = "digits",
    status: int | None = 0,
    arguments: Sequence[str] = (),
    python: Path = Path(sys.executable),
) -> str:
    """Train in separate processes and return their output; horovodrun turns each failure into status 1."""
    quick = QUICK if recipe == "digits" else ()
    given = [argument for change in (*quick, *changes) for argument in ("--set", change)]
    argv = command(launcher, processes, python, recipe, "--out", str(out), *given, *arguments)
    variables = environment(PYTHON_EXEC=str(python))
    done = subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=900)
    assert status is None or done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def launched_by_hosts(hosts: int, processes: int, recipe: str, out: Path, *changes: str) -> str:
    """Train by one torchrun for each host, all of them on this computer, and return the output of all."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = ["--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
    given = [argument for change in changes for argument in ("--set", change)]
    agents = [
        subprocess.Popen(
            [str(BIN / "torchrun"), "--nnodes", str(hosts), "--node-rank", str(number), *place,
             "--nproc-per-node", str(processes), "-m", MODULE, recipe, "--out", str(out), *given],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for number in range(hosts)
    ]  # fmt: skip
    try:
        output = "".join(agent.communicate(timeout=900)[0] for agent in agents)
    finally:
        for agent in agents:
            agent.kill()
    assert not any(agent.returncode for agent in agents), output
    return output


def weights(out: Path) -> Mapping[str, torch.Tensor]:
    found = newest(out / "checkpoints")
    assert found
    return load(found)["model"]


def read_metrics(out: Path, rank: str = "0") -> list[dict[str, Any]]:
    """Return the lines of metrics of a process."""
    name = "metrics.jsonl" if rank == "0" else f"metrics-{rank}.jsonl"
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def assert_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """Every weight is the same to the last bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def assert_close(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    """Every weight is the same, up to the order in which gradients were added."""
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=2e-5, msg=name)


def alone(out: Path, precision: str = "fp32") -> RunContext:
    """Return the surroundings of one process on a CPU, without checkpoints."""
    from workloads.training.device import select_device

    def none() -> Any:
        raise AssertionError("no checkpoint is wanted here")

    quiet = MetricsLog(out / "metrics.jsonl", lambda: False)
    return RunContext(Alone(), select_device("cpu", 0, 1), Precision(precision, "given"), quiet, lambda: False, none)  # type: ignore[arg-type]

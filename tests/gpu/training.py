"""Training of a classifier, communication of one process and of two, and the cost of checkpoints."""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.gpu.check import Recorder, Target, check, need

PACKAGES = ("torch", "pydantic", "yaml", "psutil", "numpy", "safetensors")
ACCURACY = 0.9
"""Least accuracy of the digits; the recipe reaches 0.98 on a CPU."""
ELEMENTS, TINY_ELEMENTS = 64 << 20, 1 << 10
"""Numbers of the tensor that NCCL reduces: 256 MiB."""
WIDTH, CPU_WIDTH, TINY_WIDTH = 2048, 512, 32
LAYERS = 10
"""On a GPU a model of 42 million parameters; with both moments of AdamW its checkpoint has 503 MB."""
SAVES, TINY_SAVES = 5, 2
STEPS, TINY_STEPS = 300, 60
"""Steps of the digits; the first number is the recipe's."""
TINY_ACCURACY = 0.5


def torchrun_environment() -> dict[str, str]:
    """Return the variables that torchrun gives to the only process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    return {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@check("nccl", "NCCL and Gloo in a group of one process", 45, packages=(*PACKAGES, "transformers"))
def nccl(recorder: Recorder, target: Target) -> None:
    """Reduce on the GPU by NCCL, and exchange flags and messages on the CPU by Gloo."""
    import torch

    from workloads.training.load_config import load_config
    from workloads.training.workers import join

    os.environ |= torchrun_environment()
    workers = join(load_config("digits", ["launcher=torchrun", f"device={target.kind}"]), os.environ)
    if target.kind == "cuda":
        recorder.record(nccl=".".join(map(str, torch.cuda.nccl.version())))
    try:
        for name, value in exchange(workers, target).items():
            recorder.record(**{name: value})
    finally:
        workers.leave()


def exchange(workers: Any, target: Target) -> dict[str, float]:
    """Return the times of a sum on the device and of a flag, after all results have been compared with their own.

    Raises:
        CheckFailed: A sum, a flag or a message is wrong.
    """
    import torch

    world = workers.size
    count = TINY_ELEMENTS if target.tiny else ELEMENTS
    device = torch.device("cuda", workers.local_rank) if target.kind == "cuda" else torch.device("cpu")
    # as many processes have ones: each sum is the number of processes times that of the sum before
    numbers = torch.ones(count, device=device)

    def settle() -> None:
        if target.kind == "cuda":
            torch.cuda.synchronize(device)

    repeats = 3 if target.tiny else 20
    workers.all_reduce_sum(numbers)
    need(torch.equal(numbers, torch.full_like(numbers, world)), f"the sum of ones over {world} processes is another")
    numbers.fill_(0)
    settle()
    began = time.perf_counter()
    for _ in range(repeats):
        workers.all_reduce_sum(numbers)
    settle()
    seconds = (time.perf_counter() - began) / repeats
    need(workers.any(workers.rank == world - 1), "the flag of the last process does not arrive")
    need(not workers.any(False), "a flag arrives that no process has set")
    need(workers.broadcast({"step": 3 + workers.rank}) == {"step": 3}, "a message is not that of the first process")
    need(workers.all_gather(workers.rank) == [*range(world)], "the gathered values are not those of all processes")
    began = time.perf_counter()
    for _ in range(100):
        workers.any(False)
    flag = (time.perf_counter() - began) / 100
    return {"all_reduce_mib": count * 4 / (1 << 20), "all_reduce_ms": 1000 * seconds, "stop_flag_ms": 1000 * flag}


@check("two-gpus", "two GPUs: sums by NCCL, and the digits learnt by two processes as by one", 75, gpus=2,
       packages=(*PACKAGES, "transformers", "sklearn"))  # fmt: skip
def two_gpus(recorder: Recorder, target: Target) -> None:
    """Start two processes by torchrun: for the sums, and for a training, whose loss one process repeats."""
    scratch, steps = Path(mkdtemp()), 10 if target.tiny else 60
    shape = ("digits", "--set", f"device={target.kind}", "--stop-at", str(steps), "--set", "report_every_steps=10")
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    figures = str(scratch / "sums.json")
    start(*launcher, "tests.gpu.two_ranks", target.kind, str(int(target.tiny)), figures)
    for name, value in json.loads(Path(figures).read_text()).items():
        recorder.record(**{name: value})
    start(*launcher, "workloads.training", *shape, "--out", str(scratch / "two"))
    run("workloads.training", target, *shape, "--out", str(scratch / "one"))
    losses = [_last_loss(scratch / name) for name in ("one", "two")]
    recorder.record(loss_of_one=losses[0], loss_of_two=losses[1])
    off = abs(losses[1] / losses[0] - 1)
    need(off < SAME_LOSS, f"after {steps} steps the loss of two processes is {off:.1%} off that of one")


two_ranks_cpu = two_gpus.on_processor(
    "two-ranks-cpu", "two processes: sums by Gloo, and the digits learnt by two processes as by one", 200
)
SAME_LOSS = 0.05
"""Largest difference of a loss in mixed precision between one process and two, as a share."""


def _last_loss(out: Path) -> float:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return float([line["loss"] for line in lines if "loss" in line][-1])


@check("digits", "the digits in mixed precision, stopped and resumed", 75, packages=(*PACKAGES, "sklearn"))
def digits(recorder: Recorder, target: Target) -> None:
    whole, parts = Path(mkdtemp()) / "whole", Path(mkdtemp()) / "parts"
    steps = TINY_STEPS if target.tiny else STEPS
    began = time.perf_counter()
    _train(whole, target, steps)
    recorder.record(run_seconds=time.perf_counter() - began)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    start, measured, end = lines[0], [line for line in lines if "loss" in line], lines[-1]
    recorder.record(
        device=start["device_name"], precision=start["precision"], accuracy=end["held_out_accuracy"],
        step_ms=1000 * statistics.median(line["step_seconds"] for line in measured[1:]),
    )  # fmt: skip
    for name in ("mfu", "gpu_power_watts"):
        if measured[-1].get(name) is not None:
            recorder.record(**{name: measured[-1][name]})
    least = TINY_ACCURACY if target.tiny else ACCURACY
    need(start["device"] == target.kind, f"the run trained on {start['device']}, not on {target.kind}")
    need(end["held_out_accuracy"] > least, f"accuracy is {end['held_out_accuracy']:.3f}; at least {least}")
    _train(parts, target, steps, "--stop-at", str(steps // 2 - 20))
    _train(parts, target, steps)
    same = _weights(whole) == _weights(parts)
    recorder.record(resumed_to_the_last_bit=same)
    need(same or target.kind == "cuda", "a resumed run ends with other weights")


digits_cpu = digits.on_processor("digits-cpu", "the digits on a processor, stopped and resumed", 400)


def _train(out: Path, target: Target, steps: int, *arguments: str) -> None:
    shape = ("--set", f"device={target.kind}", "--set", f"steps={steps}")
    run("workloads.training", target, "digits", "--out", str(out), *shape, *arguments)


def run(module: str, target: Target, *arguments: str) -> None:
    """Run a program: in a process of its own, or at the smallest size in this one, which has imported PyTorch.

    Raises:
        CheckFailed: The program ends with another status than 0.
    """
    if target.tiny:
        with redirect_stdout(StringIO()):
            status = import_module(f"{module}.__main__").main([*arguments])
        need(status == 0, f"{module} ended with {status}")
    else:
        start(module, *arguments)


def start(module: str, *arguments: str) -> None:
    """Run a program in a process of its own.

    Raises:
        CheckFailed: The program ends with another status than 0.
    """
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True)
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    # torchrun ends with a table, and the error is above it
    errors = [line for line in lines if re.search(r"\w(Error|Failed): |^error: ", line)]
    need(done.returncode == 0, f"{module} ended with {done.returncode}: {' '.join((errors or lines)[:1])}")


def _weights(out: Path) -> bytes:
    [*_, last] = sorted((out / "checkpoints").glob("step-*"))
    [file] = last.glob("*.safetensors")
    return file.read_bytes()


@check("checkpoints", "the cost of a checkpoint of 503 MB from a GPU", 40, packages=PACKAGES, stage=2)
def checkpoints(recorder: Recorder, target: Target) -> None:
    """Save in turns by our checkpoints and by torch.save, and compare what comes back."""
    import torch

    from workloads.checkpoint import Checkpoints, load, newest

    kind, saves = target.kind, TINY_SAVES if target.tiny else SAVES
    width = TINY_WIDTH if target.tiny else WIDTH if kind == "cuda" else CPU_WIDTH
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(LAYERS))).to(kind)
    optimizer = torch.optim.AdamW(model.parameters())
    x = torch.randn(64, width, device=kind)

    def step() -> None:
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    def state() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    def seconds(action: Any) -> float:
        if kind == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        action()
        if kind == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    step()
    directory = Path(mkdtemp())
    blocked, written, plain = [], [], []
    with Checkpoints(directory / "checkpoints", keep_last=2) as files:
        files.prepare(state())
        for number in range(saves + 1):
            began = time.perf_counter()
            blocked.append(seconds(lambda number=number: files.save(number, state())))
            files.wait()
            written.append(time.perf_counter() - began)
            plain.append(seconds(lambda: torch.save(state(), directory / "torch.pt")))
            need(not files.failure, files.failure)
        found = newest(directory / "checkpoints")
        need(found is not None and found.step == saves, "the last checkpoint is not there")
        assert found
        loaded = load(found)["model"]
    size = sum(file.stat().st_size for file in found.path.iterdir())
    recorder.record(
        size_bytes=size, blocked_ms=1000 * statistics.median(blocked[1:]),
        torch_save_ms=1000 * statistics.median(plain[1:]), on_the_drive_ms=1000 * statistics.median(written[1:]),
    )  # fmt: skip
    same = all(torch.equal(loaded[name], value.cpu()) for name, value in model.state_dict().items())
    need(same, "a weight comes back as another one")


checkpoints_cpu = checkpoints.on_processor("checkpoints-cpu", "the cost of a checkpoint of 31 MB", 90)

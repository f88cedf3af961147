"""Training of a classifier, communication of one process, and the cost of checkpoints."""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from tests.gpu.check import Recorder, check, need

PACKAGES = ("torch", "pydantic", "yaml", "psutil", "numpy", "safetensors")
ACCURACY = 0.9
"""Least accuracy of the digits; the recipe reaches 0.98 on a CPU."""
ELEMENTS = 64 << 20
"""Numbers of the tensor that NCCL reduces: 256 MiB."""
WIDTH, LAYERS = 2048, 10
"""A model of 42 million parameters; with both moments of AdamW its checkpoint has 503 MB."""
SAVES = 5


def torchrun_environment() -> dict[str, str]:
    """Return the variables that torchrun gives to the only process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    return {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


@check("nccl", "NCCL and Gloo in a group of one process", 60, packages=(*PACKAGES, "transformers"))
def nccl(recorder: Recorder) -> None:
    """Reduce on the GPU by NCCL, and exchange flags and messages on the CPU by Gloo."""
    import torch

    from workloads.training.load_config import load_config
    from workloads.training.workers import join

    os.environ |= torchrun_environment()
    workers = join(load_config("digits", ["launcher=torchrun"]), os.environ)
    recorder.record(nccl=".".join(map(str, torch.cuda.nccl.version())))
    numbers = torch.arange(ELEMENTS, device="cuda", dtype=torch.float32)
    expected = numbers.clone()
    for _ in range(3):
        workers.all_reduce_sum(numbers)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        workers.all_reduce_sum(numbers)
    torch.cuda.synchronize()
    recorder.record(all_reduce_256_mib_ms=1000 * (time.perf_counter() - began) / 20)
    need(torch.equal(numbers, expected), "the sum over one process is another tensor")
    need(workers.any(True) and not workers.any(False), "the flag of one process is not its own")
    need(workers.broadcast({"step": 3}) == {"step": 3}, "a message of one process is not its own")
    need(workers.all_gather(7) == [7], "a group of one process gathers another number of values")
    began = time.perf_counter()
    for _ in range(100):
        workers.any(False)
    recorder.record(stop_flag_ms=10 * (time.perf_counter() - began))
    workers.leave()


@check("digits", "the digits in mixed precision, stopped and resumed", 120, packages=(*PACKAGES, "sklearn"))
def digits(recorder: Recorder) -> None:
    _train_digits(recorder, "cuda")


@check("digits-cpu", "the digits on a processor, stopped and resumed", 400, gpu=False, packages=(*PACKAGES, "sklearn"))
def digits_cpu(recorder: Recorder) -> None:
    _train_digits(recorder, "cpu")


def _train_digits(recorder: Recorder, kind: str) -> None:
    whole, parts = Path(mkdtemp()) / "whole", Path(mkdtemp()) / "parts"
    began = time.perf_counter()
    _train(whole, kind)
    recorder.record(run_seconds=time.perf_counter() - began)
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    start, steps, end = lines[0], [line for line in lines if "loss" in line], lines[-1]
    recorder.record(
        device=start["device_name"], precision=start["precision"], accuracy=end["held_out_accuracy"],
        step_ms=1000 * statistics.median(line["step_seconds"] for line in steps[1:]),
    )  # fmt: skip
    for name in ("mfu", "gpu_power_watts"):
        if steps[-1].get(name) is not None:
            recorder.record(**{name: steps[-1][name]})
    need(start["device"] == kind, f"the run trained on {start['device']}, not on {kind}")
    need(end["held_out_accuracy"] > ACCURACY, f"accuracy is {end['held_out_accuracy']:.3f}; at least {ACCURACY}")
    _train(parts, kind, "--stop-at", "130")
    _train(parts, kind)
    recorder.record(resumed_to_the_last_bit=_weights(whole) == _weights(parts))


def _train(out: Path, kind: str, *arguments: str) -> None:
    argv = [sys.executable, "-m", "workloads.training", "digits", "--out", str(out), "--set", f"device={kind}"]
    done = subprocess.run([*argv, *arguments], capture_output=True, text=True)
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    need(done.returncode == 0, f"the training ended with {done.returncode}: {' '.join(last)}")


def _weights(out: Path) -> bytes:
    [*_, last] = sorted((out / "checkpoints").glob("step-*"))
    [file] = last.glob("*.safetensors")
    return file.read_bytes()


@check("checkpoints", "the cost of a checkpoint of 503 MB from a GPU", 90, packages=PACKAGES)
def checkpoints(recorder: Recorder) -> None:
    _measure_checkpoints(recorder, "cuda", WIDTH)


@check("checkpoints-cpu", "the cost of a checkpoint of 31 MB", 90, gpu=False, packages=PACKAGES)
def checkpoints_cpu(recorder: Recorder) -> None:
    _measure_checkpoints(recorder, "cpu", WIDTH // 4)


def _measure_checkpoints(recorder: Recorder, kind: str, width: int) -> None:
    """Save in turns by our checkpoints and by torch.save, and compare what comes back."""
    import torch

    from workloads.checkpoint import Checkpoints, load, newest

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
        for number in range(SAVES + 1):
            began = time.perf_counter()
            blocked.append(seconds(lambda number=number: files.save(number, state())))
            files.wait()
            written.append(time.perf_counter() - began)
            plain.append(seconds(lambda: torch.save(state(), directory / "torch.pt")))
            need(not files.failure, files.failure)
        found = newest(directory / "checkpoints")
        need(found is not None and found.step == SAVES, "the last checkpoint is not there")
        assert found
        loaded = load(found)["model"]
    size = sum(file.stat().st_size for file in found.path.iterdir())
    recorder.record(
        size_bytes=size, blocked_ms=1000 * statistics.median(blocked[1:]),
        torch_save_ms=1000 * statistics.median(plain[1:]), on_the_drive_ms=1000 * statistics.median(written[1:]),
    )  # fmt: skip
    same = all(torch.equal(loaded[name], value.cpu()) for name, value in model.state_dict().items())
    need(same, "a weight comes back as another one")

"""Sharded training of a language model: its memory against the estimate, and its rate with each setting."""

import gc
import os
import time
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

from tests.gpu.check import CheckSkipped, Recorder, check, need
from tests.gpu.training import torchrun_environment

PACKAGES = ("torch", "transformers", "pydantic", "yaml", "psutil", "numpy", "safetensors", "pynvml")
MARGIN = 0.1
"""Largest deviation of the held memory from the estimate."""
PEAK_MARGIN = 0.2
"""Largest excess of the peak over the estimate."""
BATCH, LENGTH, STEPS = 4, 1024, 8
WARM_UP_STEPS = 3
FLOPS_PER_PARAMETER = 6
"""Operations for a token in the forward and backward pass. Source: Kaplan et al., arXiv:2001.08361, section 2.1."""
TOLERANCE = 0.02
"""Largest difference of a loss in bf16 between two settings, as a share."""


@check("language", "a language model in bf16, sharded by FSDP2: memory against the estimate", 150, packages=PACKAGES)
def sharded(recorder: Recorder) -> None:
    figures = _measure("cuda", ["chunked_loss=false", "compile=false"], recorder)
    _judge(figures)


@check("chunked-loss", "the same with the loss in chunks", 120, packages=PACKAGES)
def chunked_loss(recorder: Recorder) -> None:
    _compare(recorder, "chunked_loss")


@check("compile", "the same, compiled", 200, packages=PACKAGES)
def compiled(recorder: Recorder) -> None:
    _compare(recorder, "compile")


@check("language-cpu", "a language model of 2 million parameters in bf16, sharded: memory against the estimate", 300,
       gpu=False, packages=PACKAGES)  # fmt: skip
def sharded_cpu(recorder: Recorder) -> None:
    import json

    from tests.support import sharded_memory
    from workloads.training.workers import join

    directory = Path(mkdtemp())
    sharded_memory.make_model(directory)
    os.environ |= torchrun_environment()
    config = sharded_memory.config_of(directory, "bf16", False, False)
    workers = join(config, os.environ)
    held, estimate = sharded_memory.measure(config, workers, directory)
    workers.leave()
    off = held / estimate - 1
    recorder.record(held_mb=held / 1e6, estimate_mb=estimate / 1e6, off_percent=100 * off)
    need(abs(off) <= MARGIN, f"{json.dumps({'held': held, 'estimate': estimate})} is {off:+.1%} off")


def _compare(recorder: Recorder, setting: str) -> None:
    """Measure the model without and with *setting*, each in a run of its own."""
    import torch

    if setting == "chunked_loss" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise CheckSkipped(f"PyTorch {torch.__version__} has no loss in chunks, which 2.13 has")
    others = [f"{name}=false" for name in ("chunked_loss", "compile") if name != setting]
    without = _measure("cuda", [*others, f"{setting}=false"], None)
    recorder.record(size=without["size"], without_tokens_per_second=without["tokens_per_second"],
                    without_peak_bytes=without["peak_bytes"])  # fmt: skip
    figures = _measure("cuda", [*others, f"{setting}=true"], recorder)
    recorder.record(faster_ratio=figures["tokens_per_second"] / without["tokens_per_second"],
                    peak_ratio=figures["peak_bytes"] / without["peak_bytes"])  # fmt: skip
    off = figures["loss"] / without["loss"] - 1
    need(abs(off) < TOLERANCE, f"the loss after {STEPS} steps is {figures['loss']}, and {without['loss']} without it")
    _judge(figures)


def _judge(figures: dict[str, Any]) -> None:
    off = figures["held_bytes"] / figures["estimate_bytes"] - 1
    need(abs(off) <= MARGIN, f"after the forward pass the memory is {off:+.1%} off the estimate")
    over = figures["peak_bytes"] / figures["estimate_peak_bytes"] - 1
    need(over <= PEAK_MARGIN, f"the peak is {over:+.1%} over the estimate")
    need(figures["loss"] < figures["first_loss"], "the loss has not become less")


def _measure(kind: str, changes: list[str], recorder: Recorder | None) -> dict[str, Any]:
    """Return memory, rate and loss of a sharded training with *changes*, in a group of one process.

    On a CPU the memory is 0: PyTorch counts that of GPUs alone.
    """
    import torch

    from tests.gpu import model
    from workloads.training import acceleration, data, memory
    from workloads.training.device import select_device
    from workloads.training.load_config import load_config
    from workloads.training.loop import RunContext, Training, TrainingInputs
    from workloads.training.metrics import MetricsLog
    from workloads.training.models import build_shapes
    from workloads.training.precision import Precision
    from workloads.training.workers import join

    figures: dict[str, Any] = {}

    def keep(**values: Any) -> None:
        figures.update(values)
        if recorder:
            recorder.record(**values)

    directory, device = Path(mkdtemp()), select_device(kind, 0, 1)
    name = "bf16" if kind == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    size, length = (model.size_for(device.memory), LENGTH) if kind == "cuda" else ("2M", 64)
    model.write(directory, size, kind, length)
    keep(size=size, precision=name)
    config = load_config("lora", [*model.training_changes(directory, name, BATCH, length), f"device={kind}", *changes])
    os.environ.update(torchrun_environment())
    workers = join(config, os.environ)
    precision = Precision(name, "given")  # type: ignore[arg-type]
    shapes = build_shapes(config.model)
    accelerated = acceleration.choose(config, shapes, kind, precision, 1)
    estimate = memory.estimate(config, shapes, 1, 1, precision, accelerated, True)
    keep(acceleration=str(accelerated))
    keep(parameters=estimate.parameters, estimate_bytes=estimate.after_forward, estimate_peak_bytes=estimate.total)
    no_files: Any = SimpleNamespace(save=lambda step, state: None, wait=lambda: True, committed=None)
    log = MetricsLog(directory / "metrics.jsonl", lambda: False)
    context = RunContext(workers, device, precision, log, lambda: False, lambda: no_files)  # type: ignore[arg-type]
    examples = data.load(config.data)
    gc.collect()  # a measurement before this one leaves cycles
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    training = Training(config, TrainingInputs(examples), context)
    x, y = (tensor.to(device.torch) for tensor in examples.take(torch.arange(BATCH)))
    loss, _ = training._forward(training.model, x, y, counting=False)
    keep(held_bytes=torch.cuda.memory_allocated() - before, first_loss=float(loss.detach()) / y.numel())
    del loss
    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training.run(training.model, WARM_UP_STEPS)
    device.synchronize()
    began = time.perf_counter()
    training.run(training.model, WARM_UP_STEPS + STEPS)
    device.synchronize()
    rate = STEPS * BATCH * length / (time.perf_counter() - began)
    assert training._loss is not None
    keep(tokens_per_second=rate, peak_bytes=torch.cuda.max_memory_allocated() - before,
         loss=float(training._loss) / y.numel())  # fmt: skip
    if training._peak:
        keep(mfu_percent=100 * rate * FLOPS_PER_PARAMETER * estimate.parameters / training._peak)
    workers.leave()
    return figures

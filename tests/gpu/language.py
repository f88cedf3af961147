"""Sharded training of a language model: its memory against the estimate, and its rate with each setting."""

import gc
import os
import time
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

from tests.gpu.check import CheckSkipped, Recorder, Target, check, need
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


@check("language", "a language model in bf16, sharded by FSDP2: memory against the estimate", 90, packages=PACKAGES)
def sharded(recorder: Recorder, target: Target) -> None:
    figures = _measure(target, ["chunked_loss=false", "compile=false"], recorder)
    _judge(figures)


sharded_cpu = sharded.on_processor(
    "language-cpu", "a language model of 2 million parameters in bf16, sharded: memory against the estimate", 300
)


@check("chunked-loss", "the same with the loss in chunks", 70, packages=PACKAGES, stage=2)
def chunked_loss(recorder: Recorder, target: Target) -> None:
    _compare(recorder, target, "chunked_loss")


@check("compile", "the same, compiled", 70, packages=PACKAGES, stage=2)
def compiled(recorder: Recorder, target: Target) -> None:
    _compare(recorder, target, "compile")


def _compare(recorder: Recorder, target: Target, setting: str) -> None:
    """Measure the model without and with *setting*, each in a run of its own."""
    import torch

    if setting == "chunked_loss" and not hasattr(torch.nn, "LinearCrossEntropyOptions"):
        raise CheckSkipped(f"PyTorch {torch.__version__} has no loss in chunks, which 2.13 has")
    others = [f"{name}=false" for name in ("chunked_loss", "compile") if name != setting]
    without = _measure(target, [*others, f"{setting}=false"], None)
    recorder.record(size=without["size"], without_tokens_per_second=without["tokens_per_second"])
    figures = _measure(target, [*others, f"{setting}=true"], recorder)
    recorder.record(faster_ratio=figures["tokens_per_second"] / without["tokens_per_second"])
    memory = "peak_bytes" if "peak_bytes" in figures else "held_bytes"
    recorder.record(memory_ratio=figures[memory] / without[memory])
    off = figures["loss"] / without["loss"] - 1
    need(abs(off) < TOLERANCE, f"the loss after {STEPS} steps is {figures['loss']}, and {without['loss']} without it")
    # the compiler's own tensors are objects of Python, too, and the count on a processor cannot tell them apart
    _judge(figures, target.kind == "cuda" or setting != "compile")


def _judge(figures: dict[str, Any], memory: bool = True) -> None:
    off = figures["held_bytes"] / figures["estimate_bytes"] - 1
    need(not memory or abs(off) <= MARGIN, f"after the forward pass the memory is {off:+.1%} off the estimate")
    if "peak_bytes" in figures:
        over = figures["peak_bytes"] / figures["estimate_peak_bytes"] - 1
        need(over <= PEAK_MARGIN, f"the peak is {over:+.1%} over the estimate")
    need(figures["loss"] < figures["first_loss"], "the loss has not become less")


class _Gpu:
    """The memory of this process on a GPU, as PyTorch counts it."""

    def __init__(self) -> None:
        import torch

        self._cuda = torch.cuda
        self._cuda.empty_cache()
        self._before = self._cuda.memory_allocated()

    def held(self) -> int:
        """Return the bytes of the tensors that have been made since."""
        return int(self._cuda.memory_allocated() - self._before)

    def start_peak(self) -> None:
        self._cuda.reset_peak_memory_stats()

    def peak(self) -> dict[str, int]:
        """Return the figure of the largest memory since `start_peak`."""
        return {"peak_bytes": int(self._cuda.max_memory_allocated() - self._before)}


class _Processor:
    """The tensors of this process in host memory, which have no peak that PyTorch counts."""

    def __init__(self, tiny: bool) -> None:
        from tests.support import sharded_memory

        self._count, self._measurements = sharded_memory, 1 if tiny else sharded_memory.MEASUREMENTS
        self._before = dict(sharded_memory.storages())

    def held(self) -> int:
        return min(self._count.held_since(self._before) for _ in range(self._measurements))

    def start_peak(self) -> None:
        pass

    def peak(self) -> dict[str, int]:
        return {}


def _measure(target: Target, changes: list[str], recorder: Recorder | None) -> dict[str, Any]:
    """Return memory, rate and loss of a sharded training with *changes*, in a group of one process."""
    import torch

    from tests.gpu import model
    from workloads.training import acceleration, data, memory
    from workloads.training.device import select_device
    from workloads.training.evaluation import make_batch
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

    kind = target.kind
    directory, device = Path(mkdtemp()), select_device(kind, 0, 1)
    name = "bf16" if kind == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    size, length = (model.size_for(device.memory), LENGTH) if kind == "cuda" else ("2M", 64)
    if target.tiny:
        size, length = "tiny", 16
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
    counter = _Gpu() if kind == "cuda" else _Processor(target.tiny)
    training = Training(config, TrainingInputs(examples), context)
    batch = make_batch(examples, torch.arange(BATCH), device)
    # values that autograd saves become objects of Python, which the count on a processor finds
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        loss, _ = training._forward(training.model, batch, counting=False)
    answers = batch.y.numel()
    keep(held_bytes=counter.held(), first_loss=float(loss.detach()) / answers)
    del loss, batch
    counter.start_peak()
    training.run(training.model, WARM_UP_STEPS)
    device.synchronize()
    began = time.perf_counter()
    training.run(training.model, WARM_UP_STEPS + STEPS)
    device.synchronize()
    rate = STEPS * BATCH * length / (time.perf_counter() - began)
    assert training._loss is not None
    keep(tokens_per_second=rate, loss=float(training._loss) / answers, **counter.peak())
    if training._peak:
        keep(mfu_percent=100 * rate * FLOPS_PER_PARAMETER * estimate.parameters / training._peak)
    workers.leave()
    return figures

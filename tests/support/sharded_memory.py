"""The memory that a rank of a sharded run really holds after its first forward pass, beside the estimate.

    torchrun --nproc-per-node 2 -m tests.support.sharded_memory MODEL

Each rank writes a line of JSON for each case to a file of its own beside the model: lines that several processes print
may mix.
"""

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Container, Iterator
from pathlib import Path

import torch

from workloads.training import acceleration, data, memory
from workloads.training.config import TrainingConfig
from workloads.training.evaluation import make_batch
from workloads.training.load_config import load_config
from workloads.training.loop import RunContext, Training, TrainingInputs
from workloads.training.metrics import MetricsLog
from workloads.training.models import build_shapes
from workloads.training.precision import Precision
from workloads.training.workers import Workers, join

KINDS = (("bf16", False), ("bf16", True), ("fp32", False), ("fp32", True))
CASES = [
    *((precision, lora, recompute, False) for precision, lora in KINDS for recompute in (False, True)),
    *((precision, lora, True, True) for precision, lora in KINDS),
]
"""Precision, adapters, activations computed again, and the loss in chunks."""

MEASUREMENTS = 5
"""The least of several counts: on a busy machine a thread of Gloo holds the tensors of a finished all-gather longer."""


def make_model(directory: Path, layers: int = 8, vocabulary: int = 256) -> None:
    """Write a small Llama model with random weights, and a text of bytes, to *directory*."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=128, intermediate_size=512, num_hidden_layers=layers,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        )
    ).save_pretrained(directory)  # fmt: skip
    (directory / "text.txt").write_bytes(bytes(range(256)) * 16)


def config_of(
    directory: Path, precision: str, lora: bool, recompute: bool, chunked_loss: bool = False
) -> TrainingConfig:
    """Return the configuration of a case."""
    model = {"kind": "hugging-face", "path": str(directory), "lora": {"rank": 4} if lora else None}
    text = {"kind": "text", "path": str(directory / "text.txt"), "sequence_length": 64}
    changes = [f"model={json.dumps(model)}", f"data={json.dumps(text)}", "global_batch=4", "accumulate=1"]
    changes += [f"precision={precision}", f"recompute_activations={json.dumps(recompute)}"]
    changes += [f"chunked_loss={json.dumps(chunked_loss)}"]
    return load_config("lora", [*changes, "sharding=full", "device=cpu"])


def measure(config: TrainingConfig, workers: Workers, out: Path) -> tuple[int, int]:
    """Return the bytes that this rank holds between forward and backward pass, and the bytes of the estimate."""
    from workloads.training.device import select_device

    quiet = MetricsLog(out / "metrics.jsonl", lambda: False)
    precision, device = Precision(config.precision, "given"), select_device("cpu", 0, 1)  # type: ignore[arg-type]
    context = RunContext(workers, device, precision, quiet, lambda: False, lambda: None)  # type: ignore[arg-type,return-value]
    examples = data.load(config.data)
    gc.unfreeze()
    gc.collect()
    before = dict(storages())
    gc.freeze()  # the modules' half a million objects hold no tensors of the training: the counts below skip them
    training = Training(config, TrainingInputs(examples), context)
    batch = make_batch(examples, torch.arange(config.global_batch // workers.size), device)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor):
        loss, _ = training._forward(training.model, batch, counting=False)
    held = min(held_since(before) for _ in range(MEASUREMENTS))
    shapes = build_shapes(config.model)
    accelerated = acceleration.choose(config, shapes, device.kind, precision, workers.size)
    estimate = memory.estimate(config, shapes, workers.shards, workers.size, precision, accelerated, workers.sharded)
    del loss
    return held, estimate.after_forward


def held_since(before: Container[int]) -> int:
    """Return the bytes of the storages in memory that are not among *before*."""
    time.sleep(0.1)
    gc.collect()
    return sum(size for storage, size in dict(storages()).items() if storage not in before)


def storages() -> Iterator[tuple[int, int]]:
    """Yield each storage in memory that a tensor uses, and its size.

    Distributed tensors hold ordinary ones, and so do sparse ones.
    """
    for each in gc.get_objects():
        if not issubclass(type(each), torch.Tensor) or hasattr(each, "to_local"):
            continue
        if each.device.type == "cpu" and each.layout == torch.strided:
            yield each.untyped_storage()._cdata, each.untyped_storage().nbytes()


def main(directory: Path) -> None:
    workers = join(config_of(directory, *CASES[0]), os.environ)
    with (directory / f"memory-{workers.rank}.jsonl").open("w") as measurements:
        for case in CASES:
            with tempfile.TemporaryDirectory() as out:
                held, estimate = measure(config_of(directory, *case), workers, Path(out))
            print(json.dumps({"case": case, "held": held, "estimate": estimate}), file=measurements)
    workers.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))

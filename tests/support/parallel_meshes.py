"""Two steps of training on meshes of tensor and expert parallelism, beside those of one process.

    torchrun --nproc-per-node 4 -m tests.support.parallel_meshes DIRECTORY CASE…

With sharding hybrid the first half of the processes takes itself for one host, and the second half for another.

The first rank prints a line of JSON for each case: the largest difference of a weight, and the bytes of its part of
the model with those of the estimate.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from workloads.training import data, memory
from workloads.training.config import TrainingConfig
from workloads.training.device import select_device
from workloads.training.load_config import load_config
from workloads.training.loop import RunContext, Training, TrainingInputs
from workloads.training.metrics import MetricsLog
from workloads.training.models import build_shapes
from workloads.training.precision import FP32
from workloads.training.workers import Workers, join
from workloads.training.workers.workers import Alone

STEPS = 2
CLIP_NORM = 0.05
"""Small enough that each step clips its gradients: a wrong norm changes all weights."""


def make_models(directory: Path) -> None:
    """Write models with random weights to *directory*: with plain layers, with norms of heads, and with experts."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        Qwen3MoeConfig,
        Qwen3MoeForCausalLM,
    )  # fmt: skip

    shape = {
        "vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64,
    }  # fmt: skip
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)).save_pretrained(directory / "llama")
    Qwen3ForCausalLM(Qwen3Config(**shape)).save_pretrained(directory / "qwen3")
    Qwen3MoeForCausalLM(Qwen3MoeConfig(**shape, **experts)).save_pretrained(directory / "qwen3-moe")
    (directory / "text.txt").write_bytes(bytes(range(256)) * 16)


def config_of(directory: Path, model: str, *changes: str) -> TrainingConfig:
    """Return the configuration of *model*: a directory of `make_models`, or deepseek-v3-tiny."""
    text = {"kind": "text", "path": str(directory / "text.txt"), "sequence_length": 32}
    given = [f"data={json.dumps(text)}", "global_batch=8", "device=cpu", f"optimizer.clip_norm={CLIP_NORM}"]
    given += ["accumulate=1", "schedule.warmup_steps=0", "optimizer.kind=sgd", "optimizer.learning_rate=1.0"]
    if model == "deepseek-v3-tiny":
        return load_config(model, [*given, *changes])
    shape = {"kind": "hugging-face", "path": str(directory / model)}
    return load_config("lora", [f"model={json.dumps(shape)}", *given, *changes])


def trained(config: TrainingConfig, workers: Workers, directory: Path) -> Training:
    """Return the training of *config* after two steps."""
    quiet = MetricsLog(directory / "metrics.jsonl", lambda: False)
    device = select_device("cpu", 0, 1)
    context = RunContext(workers, device, FP32, quiet, lambda: False, lambda: None)  # type: ignore[arg-type,return-value]
    training = Training(config, TrainingInputs(data.load(config.data)), context)
    model, training.optimizer = workers.average_gradients(training.model, training.optimizer)
    for step, (_, indices) in enumerate(training._batches()):
        if step == STEPS:
            break
        training._take_step(model, indices, config.optimizer.learning_rate, counting=True)
        training.step += 1
    return training


def difference(one: Training, other: Training) -> float:
    """Return the largest difference of a weight or bias of experts, of whole tensors."""
    theirs = dict(other.model.state_dict())
    return max(
        float((whole(theirs[name]) - value).abs().max())
        for name, value in one.model.state_dict().items()
    )  # fmt: skip


def whole(tensor: Any) -> torch.Tensor:
    complete: torch.Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return complete


def main(directory: Path, *cases: str) -> None:
    dist.init_process_group("gloo")
    with mock.patch.object(dist, "init_process_group"):  # a second group would find the addresses of the first one
        for case in cases:
            measure(directory, case)
    dist.destroy_process_group()


def measure(directory: Path, case: str) -> None:
    """Train *case*, a model and changes, on this mesh and in one process, and print the differences."""
    model, *changes = case.split()
    one = trained(config_of(directory, model, *(each for each in changes if "model." in each)), Alone(), directory)
    config = config_of(directory, model, *changes)
    hosts = 2 if config.sharding == "hybrid" else 1
    with mock.patch.dict(os.environ, LOCAL_WORLD_SIZE=str(dist.get_world_size() // hosts)):
        workers = join(config, os.environ)
    mesh = trained(config, workers, directory)
    held = sum(_local(each).nbytes for each in (*mesh.model.parameters(), *mesh.model.buffers()))
    shards, batches, sharded = workers.shards, workers.data_size, workers.sharded
    estimate = memory.estimate(
        config, build_shapes(config.model), shards, batches, FP32, mesh.acceleration, sharded
    )  # fmt: skip
    found = {"case": case, "difference": difference(one, mesh), "held": held, "estimate": estimate.weights}
    if workers.rank == 0:
        print(json.dumps(found), flush=True)


def _local(tensor: Any) -> torch.Tensor:
    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

"""The memory of ranks that go on from the checkpoint of another number of ranks, and the state that they read.

    python -m tests.support.reshard --make MODEL 10
    torchrun --nproc-per-node 3 -m tests.support.reshard MODEL OUT

Each rank reads its part of the newest checkpoint in OUT, if there is one, and all save it again after one step more,
without training. A rank writes a line of JSON to a file of its own in OUT.
"""

import gc
import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from workloads.training import data, memory
from workloads.training.checkpointing import open_checkpoints
from workloads.training.config import TrainingConfig
from workloads.training.device import select_device
from workloads.training.load_config import load_config
from workloads.training.loop import RunContext, Training, TrainingInputs
from workloads.training.metrics import MetricsLog
from workloads.training.models import build_shapes, trainable_state
from workloads.training.precision import Precision
from workloads.training.run import restore_newest
from workloads.training.sharded import local_part
from workloads.training.workers import join

SHAPE = {
    "vocab_size": 256, "hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8,
    "num_key_value_heads": 8, "max_position_embeddings": 64, "tie_word_embeddings": False,
}  # fmt: skip
SAMPLE_SECONDS = 0.002


def make_model(directory: Path, layers: int) -> None:
    """Write a Llama model with random weights, and a text of bytes, to *directory*; a layer has 31 MB of state."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SHAPE, num_hidden_layers=layers)).save_pretrained(directory)  # type: ignore[arg-type]
    (directory / "text.txt").write_bytes(bytes(range(256)) * 4)


def config_of(directory: Path) -> TrainingConfig:
    model = {"kind": "hugging-face", "path": str(directory), "lora": None}
    text = {"kind": "text", "path": str(directory / "text.txt"), "sequence_length": 16}
    changes = [f"model={json.dumps(model)}", f"data={json.dumps(text)}", "global_batch=12", "accumulate=1"]
    return load_config("lora", [*changes, "precision=fp32", "sharding=full", "device=cpu", "saving.keep_last=9"])


def anonymous_bytes() -> int:
    """Return the anonymous memory of this process."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) << 10


@contextmanager
def peak() -> Iterator[list[int]]:
    """Yield a list with the largest anonymous memory while the context lasts."""
    largest, done = [anonymous_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            largest[0] = max(largest[0], anonymous_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield largest
    finally:
        done.set()
        thread.join()
        largest[0] = max(largest[0], anonymous_bytes())


def main(directory: Path, out: Path) -> None:
    torch.set_num_threads(1)
    config = config_of(directory)
    workers = join(config, os.environ)
    warm_up(config)
    gc.collect()
    part = {"rank": workers.shard, "world": workers.shards, "run": workers.broadcast(uuid.uuid4().hex)}
    device, precision = select_device("cpu", 0, workers.size), Precision("fp32", "given")
    metrics = MetricsLog(out / f"metrics-{workers.rank}.jsonl", lambda: False)
    context = RunContext(
        workers, device, precision, metrics, lambda: False,  # type: ignore[arg-type]
        lambda: open_checkpoints(out / "checkpoints", config, **part),
    )  # fmt: skip
    examples = data.load(config.data)
    empty = anonymous_bytes()
    training = Training(config, TrainingInputs(examples), context)
    with peak() as largest:
        restore_newest(config, training)
    held = [*trainable_state(training.model).values()]
    moments = [value for state in training.optimizer.state.values() for value in state.values()]
    if not training.step:
        for number, moment in enumerate(moments):
            torch.manual_seed(number)
            local_part(moment).uniform_()
    shapes = build_shapes(config.model)
    needed = memory.estimate(config, shapes, workers.shards, workers.size, precision, sharded=True)
    figures = {
        "rank": workers.rank, "world": workers.size, "step": training.step,
        "part_bytes": sum(local_part(each).nbytes for each in (*held, *moments)),
        "largest_tensor_bytes": max(each.numel() * 4 for each in held),
        "anonymous_bytes": anonymous_bytes() - empty, "peak_bytes": largest[0] - empty,
        "estimate_bytes": needed.resuming,
    }  # fmt: skip
    (out / f"reshard-{workers.size}-{workers.rank}.json").write_text(json.dumps(figures))
    training.step += 1
    training.save()
    training.close()
    workers.leave()


def warm_up(config: TrainingConfig) -> None:
    """Import what a run imports, so that an empty worker has it, too."""
    import safetensors.torch  # noqa: F401
    import torch.distributed.fsdp
    import torch.distributed.tensor

    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))]).step()
    build_shapes(config.model)


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make_model(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]))

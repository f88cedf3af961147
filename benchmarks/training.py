"""What our training loop costs over plain PyTorch: processor time per step, in pairs that take turns in one process.

    $(rackwright toolchain workloads) -m benchmarks.training

Same model, same batches, same optimizer, one thread. Ours reports to its file every ten steps, as a run does.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from benchmarks import start
from workloads.training import data
from workloads.training.config import TrainingConfig
from workloads.training.device import select_device
from workloads.training.initial_weights import build
from workloads.training.load_config import load_config
from workloads.training.loop import RunContext, Training, TrainingInputs
from workloads.training.metrics import MetricsLog
from workloads.training.precision import Precision
from workloads.training.workers.workers import Alone

PAIRS = 9
CASES = {"digits": (60, ["model.channels=64", "steps=1000000"]), "deepseek-v3-tiny": (8, ["steps=1000000"])}
"""By recipe how many steps a turn has, and what is changed."""


def ours(config: TrainingConfig, examples: data.Examples, steps: int, directory: Path) -> Callable[[], None]:
    """Return what takes so many more steps in our loop each time it is called."""
    context = RunContext(
        Alone(), select_device("cpu", 0, 1), Precision("fp32", "a bench"),
        MetricsLog(directory / "metrics.jsonl", lambda: False), lambda: False,
        lambda: SimpleNamespace(save=lambda step, state: None),
    )  # type: ignore[arg-type]  # fmt: skip
    training = Training(config, TrainingInputs(examples), context)

    def take() -> None:
        training.run(training.model, training.step + steps)

    return take


def plain(config: TrainingConfig, examples: data.Examples, steps: int) -> Callable[[], None]:
    """Return what takes so many more steps as one writes them by hand."""
    torch.manual_seed(config.seed)
    model = build(config.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=config.optimizer.weight_decay)

    def batches() -> Iterator[torch.Tensor]:
        while True:
            order = torch.randperm(len(examples))
            yield from order[: len(order) // config.global_batch * config.global_batch].split(config.global_batch)

    indices = batches()

    def take() -> None:
        for _ in range(steps):
            x, y = examples.take(next(indices))
            optimizer.zero_grad()
            F.cross_entropy(model(x).flatten(0, -2), y.flatten()).backward()
            if config.optimizer.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
            optimizer.step()

    return take


def milliseconds(take: Callable[[], None], steps: int) -> float:
    """Return the processor time of this process for each step."""
    began = time.process_time()
    take()
    return (time.process_time() - began) / steps * 1000


def measure(recipe: str) -> dict[str, float | str]:
    steps, changes = CASES[recipe]
    config = load_config(recipe, changes)
    examples = data.load(config.data)
    with tempfile.TemporaryDirectory() as directory:
        one, other = ours(config, examples, steps, Path(directory)), plain(config, examples, steps)
        one(), other()  # the first steps take memory and choose kernels
        pairs = []
        for number in range(PAIRS):
            turns = [(one, 0), (other, 1)] if number % 2 else [(other, 1), (one, 0)]
            cost = [0.0, 0.0]
            for take, place in turns:
                cost[place] = milliseconds(take, steps)
            pairs.append((cost[0], cost[1]))
    ratio = statistics.median(mine / its for mine, its in pairs)
    return {
        "recipe": recipe,
        "ours_ms": round(statistics.median(mine for mine, _ in pairs), 3),
        "plain_ms": round(statistics.median(its for _, its in pairs), 3),
        "overhead_percent": round(100 * (ratio - 1), 2),
    }


def main() -> None:
    torch.set_num_threads(1)
    for recipe in CASES:
        print(json.dumps(measure(recipe)), flush=True)


if __name__ == "__main__":
    start(main, (globals(), {"PAIRS": 1, "CASES": {recipe: (1, changes) for recipe, (_, changes) in CASES.items()}}))

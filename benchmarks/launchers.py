"""What a step of two processes takes under Horovod and under torchrun, in runs that take turns.

    $(rackwright toolchain workloads) -m benchmarks.launchers

Same recipe, same batches, one thread each, over the loopback; the time between two steps by the clock, of rank 0.
"""

import json
import statistics
import tempfile
from pathlib import Path

from benchmarks import start
from tests.support.training_runs import HOROVODRUN, TORCHRUN, launched, read_metrics

PAIRS = 5
CASES = {"digits": ("model.channels=64", "steps=120"), "deepseek-v3-tiny": ("steps=40",)}
LAUNCHERS = {"horovod": HOROVODRUN, "torchrun": TORCHRUN}
FIRST = 10
"""Steps that take memory and choose kernels, and are not counted."""


def milliseconds(recipe: str, name: str) -> float:
    """Return what a step of a run of its own takes."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory)
        given = (*CASES[recipe], f"launcher={name}", "world=2", "report_every_steps=1", "saving.every_steps=1000")
        launched(LAUNCHERS[name], 2, out, *given, recipe=recipe)
        steps = [line for line in read_metrics(out) if "step_seconds" in line and line["step"] > FIRST]
        return 1000 * statistics.median(line["step_seconds"] for line in steps)


def measure(recipe: str) -> dict[str, float | str]:
    pairs = []
    for number in range(PAIRS):
        turn = {name: milliseconds(recipe, name) for name in sorted(LAUNCHERS, reverse=number % 2 == 0)}
        pairs.append((turn["horovod"], turn["torchrun"]))
    return {
        "recipe": recipe,
        "horovod_ms": round(statistics.median(one for one, _ in pairs), 2),
        "torchrun_ms": round(statistics.median(other for _, other in pairs), 2),
        "horovod_over_torchrun": round(statistics.median(one / other for one, other in pairs), 3),
    }


def main() -> None:
    for recipe in CASES:
        print(json.dumps(measure(recipe)), flush=True)


if __name__ == "__main__":
    start(main, (globals(), {"PAIRS": 1, "FIRST": 1, "CASES": {"digits": ("model.channels=8", "steps=3")}}))

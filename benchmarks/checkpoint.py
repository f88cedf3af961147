"""What a checkpoint costs the training: `python -m benchmarks.checkpoint DIRECTORY`, where torch is.

In turns, on the same state and filesystem: our save, with the steps that follow while it is written; and torch.save,
which is as fast as the page cache takes it, not on the drive when it returns and not hashed.
"""

import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import start

PAIRS = 9
WIDTH, LAYERS, BATCH = 2048, 10, 8
"""42 million parameters; with both moments of AdamW 503 MB."""


def main(directory: str) -> None:
    from workloads.checkpoint import Checkpoints

    work = Path(directory)
    work.mkdir(parents=True, exist_ok=True)
    step, state = training()
    with contextlib.suppress(FileNotFoundError):
        (work / "torch.pt").unlink()
    with Checkpoints(work / "checkpoints", keep_last=2) as checkpoints:
        checkpoints.prepare(state())
        pairs = [pair(number, checkpoints, work / "torch.pt", step, state) for number in range(PAIRS + 1)]
    report(pairs[1:])  # the first one warms up


def training() -> tuple[Callable[[], float], Callable[[], Mapping[str, Any]]]:
    """Return a training: what does a step and returns its seconds, and what returns its state."""
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(*(torch.nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    optimizer = torch.optim.AdamW(model.parameters())
    x_BD = torch.randn(BATCH, WIDTH)

    def step() -> float:
        began = time.perf_counter()
        model(x_BD).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - began

    for _ in range(3):
        step()
    return step, lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def pair(
    number: int, checkpoints: Any, path: Path, step: Callable[[], float], state: Callable[[], Mapping[str, Any]]
) -> dict[str, float]:
    """Return the seconds of one of each; every other time torch goes first."""
    figures = {"step": statistics.median(step() for _ in range(5))}
    for which in ("ours", "torch")[:: -1 if number % 2 else 1]:
        figures |= ours(number, checkpoints, step, state()) if which == "ours" else theirs(path, state())
    return figures


def ours(number: int, checkpoints: Any, step: Callable[[], float], state: Mapping[str, Any]) -> dict[str, float]:
    began = time.perf_counter()
    checkpoints.save(number, state)
    blocked = time.perf_counter() - began
    meanwhile = [step()]
    while not checkpoints.wait(0):
        if checkpoints.failure:
            sys.exit(checkpoints.failure)
        meanwhile.append(step())
    return {"blocked": blocked, "meanwhile": statistics.median(meanwhile), "written": time.perf_counter() - began}


def theirs(path: Path, state: Mapping[str, Any]) -> dict[str, float]:
    import torch

    began = time.perf_counter()
    torch.save(state, path)
    seconds = time.perf_counter() - began
    size = path.stat().st_size
    path.unlink()  # nothing of it is left to be written while the next is measured
    return {"torch": seconds, "bytes": size}


def report(pairs: list[dict[str, float]]) -> None:
    import torch

    median = {key: statistics.median(pair[key] for pair in pairs) for key in pairs[0]}
    share = statistics.median(pair["blocked"] / pair["torch"] for pair in pairs)
    slower = statistics.median(pair["meanwhile"] / pair["step"] for pair in pairs)
    load, processors = os.getloadavg()[0], os.cpu_count()
    print(f"{platform.machine()}, {processors} processors, load {load:.1f}, torch {torch.__version__}, {PAIRS} pairs")
    print(
        f"{median['bytes'] / 1e6:.0f} MB: the training stands for {1000 * median['blocked']:.0f} ms for a checkpoint;"
    )
    print(f"{1000 * median['torch']:.0f} ms for torch.save without fsync. Median of the pairs' shares: {share:.1%}")
    print(f"a step takes {1000 * median['step']:.0f} ms, and {slower:.2f} times that while a checkpoint is written,")
    print(f"hashed and on the drive after {median['written']:.1f} s")
    figures = {
        "bytes": int(median["bytes"]),
        "pairs": len(pairs),
        "share": round(share, 4),
        "slower": round(slower, 3),
        **{f"{key}_ms": round(1000 * median[key], 1) for key in ("blocked", "torch", "step", "meanwhile", "written")},
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    start(main, (globals(), {"PAIRS": 1, "WIDTH": 16, "LAYERS": 2}))

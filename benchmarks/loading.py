"""How long a model takes from the drive to its first answer: `python -m benchmarks.loading`, where torch is.

In turns, each in a process of its own that has imported its libraries and, before every cold one, with the model's
files dropped from the page cache: torch.load of the weights into a module made from its configuration, as PyTorch's own
pages write it; and what our server does with the same model published in full precision and in 8 bits, proof of every
file by its digest among it.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import start
from benchmarks.serving import cpu

ROUNDS, ROWS = 5, 64
SIDE, PATCH, LAYERS, WIDTH = 64, 16, 12, 768
"""Of a vision transformer as large as ViT-B: 86 million parameters."""
OPTIONS: tuple[str, ...] = ()
"""Options for the processes of the single measurements."""
WAYS = ("torch.load", "fp32", "int8")


def main(*arguments: str) -> None:
    match arguments:
        case ():
            measure()
        case ("make", directory):
            make(directory)
        case (way, directory):
            child(way, directory)


def measure() -> None:
    with tempfile.TemporaryDirectory(prefix="rackwright-bench-", dir=os.environ.get("RACKWRIGHT_BENCH")) as directory:
        scratch = Path(directory)
        _run("make", str(scratch))
        results: dict[str, dict[str, list[dict[str, float]]]] = {"cold": {}, "warm": {}}
        for number in range(ROUNDS):
            for way in WAYS[:: -1 if number % 2 else 1]:
                for state, measured in results.items():
                    if state == "cold":
                        forget(scratch / way)
                    measured.setdefault(way, []).append(json.loads(_run(way, str(scratch / way))))
        report(results, {way: _bytes(scratch / way) for way in WAYS})


def make(directory: str) -> None:
    """Write the model three times: its weights by torch.save, and published in full precision and in 8 bits."""
    import numpy as np
    import torch

    scratch = Path(directory)
    model = module()
    torch.manual_seed(0)
    pixels = torch.randn(ROWS, 1, SIDE, SIDE)
    with torch.inference_mode():
        labels = model(pixels).logits.argmax(1)
    (scratch / "torch.load").mkdir()
    torch.save(model.state_dict(), scratch / "torch.load" / "weights.pt")
    model.save_pretrained(scratch / "model")
    np.savez(scratch / "rows.npz", pixel_values=pixels.numpy(), labels=labels.numpy())
    # it is not trained: only its size matters here
    gate = ("gate.accuracy_kept=0", "gate.agreement=0", "gate.cosine=0", "gate.speed=null")
    loose = (*gate, "search=false", "repeats=1")
    for precision in ("fp32", "int8"):
        changes = [part for change in (f"precision={precision}", *loose) for part in ("--set", change)]
        given = ("--data", str(scratch / "rows.npz"), "--target", "cpu", "--out", str(scratch / precision))
        argv = [sys.executable, "-m", "workloads.quantize", str(scratch / "model"), *given, *changes]
        subprocess.run(argv, check=True, stdout=sys.stderr)
    os.sync()


def module() -> "torch.nn.Module":  # type: ignore[name-defined]  # noqa: F821
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=12, intermediate_size=4 * WIDTH,
        image_size=SIDE, patch_size=PATCH, num_channels=1, num_labels=10,
    )  # fmt: skip
    return ViTForImageClassification(config).eval()


def by_torch(directory: Path) -> Callable[[], None]:
    """Import what PyTorch takes, and return what loads the weights and asks once."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification  # noqa: F401  before the clock, else they are lazy

    x_BCHW = torch.zeros(1, 1, SIDE, SIDE)

    def load() -> None:
        with torch.device("meta"):
            model = module()
        weights = torch.load(directory / "weights.pt", weights_only=True, mmap=True)
        model.load_state_dict(weights, assign=True)
        with torch.inference_mode():
            model(x_BCHW)

    return load


def by_server(directory: Path) -> Callable[[], None]:
    """Import what our server takes, and return what it does until it has answered once."""
    import numpy as np

    from workloads.serving.runtimes import LanguageRuntime, load_runtime, onnx  # noqa: F401  before the clock

    x_BCHW = np.zeros((1, 1, SIDE, SIDE), np.float32)

    def load() -> None:
        runtime = load_runtime(directory)
        assert not isinstance(runtime, LanguageRuntime)
        runtime.infer({"pixel_values": x_BCHW})

    return load


def child(way: str, directory: str) -> None:
    """Print how long it took, and how long the imports before it did."""
    began = time.perf_counter()
    load = by_torch(Path(directory)) if way == "torch.load" else by_server(Path(directory))
    imported = time.perf_counter()
    load()
    print(json.dumps({"imports": imported - began, "load": time.perf_counter() - imported}))


def forget(directory: Path) -> None:
    """Drop the files of *directory*, which are on the drive, from the page cache."""
    for path in directory.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def report(results: dict[str, dict[str, list[dict[str, float]]]], sizes: dict[str, int]) -> None:
    """Print the medians, and how many times as fast as torch.load each is; the last line is for machines."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {cpu()}; medians of {ROUNDS} rounds")
    seconds = {
        state: {way: statistics.median(each["load"] for each in rounds) for way, rounds in measured.items()}
        for state, measured in results.items()
    }
    imports = {way: statistics.median(each["imports"] for each in results["warm"][way]) for way in WAYS}
    seconds["process"] = {way: imports[way] + seconds["cold"][way] for way in WAYS}
    ratios = {state: {way: round(of[WAYS[0]] / of[way], 2) for way in WAYS} for state, of in seconds.items()}
    for way in WAYS:
        figures = "   ".join(
            f"{state} {1000 * of[way]:6.0f} ms ({ratios[state][way]}x)" for state, of in seconds.items()
        )
        print(f"{way:<10} {sizes[way] / 1e6:5.0f} MB   {figures}")
    print("x: times as fast as torch.load; process: cold, with the imports of its libraries before, which were cached")
    print(json.dumps({"seconds": seconds, "ratios": ratios, "bytes": sizes, "rounds": ROUNDS}))


def _run(*arguments: str) -> str:
    argv = [sys.executable, "-m", "benchmarks.loading", *arguments, *OPTIONS]
    done = subprocess.run(argv, env={**os.environ, "OMP_NUM_THREADS": "2"}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def _bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir())


if __name__ == "__main__":
    start(main, (globals(), {"ROUNDS": 1, "LAYERS": 1, "WIDTH": 48, "OPTIONS": ("--smallest",)}))

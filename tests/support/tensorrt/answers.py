"""How many of the digits' unseen rows several models answer alike, on this computer.

$(rackwright toolchain workloads) -m tests.support.tensorrt.answers MODEL MODEL…
"""

import json
import sys
from pathlib import Path

import numpy as np

from workloads.serving.runtimes import load_runtime
from workloads.serving.settings import ServingSettings
from workloads.training.config import Digits
from workloads.training.data import held_out


def answers(directory: Path) -> tuple[str, np.ndarray]:
    """Return what computes the model in *directory*, and the class that it gives each row."""
    running, rows, most = load_runtime(directory), held_out(Digits()).x.numpy(), ServingSettings().max_batch
    parts = [running.infer({"x": rows[first : first + most]})["logits"] for first in range(0, len(rows), most)]
    return running.description, np.concatenate(parts).argmax(1)


if __name__ == "__main__":
    runtimes, classes = zip(*(answers(Path(path)) for path in sys.argv[1:]), strict=True)
    print(json.dumps({"runtimes": runtimes, "alike": float(np.mean([each == classes[0] for each in classes]))}))

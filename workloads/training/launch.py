"""Train with several processes on this machine, by Horovod or by torchrun.

    python -m workloads.training.launch -np 2 digits --out out/

The arguments after the number go to `python -m workloads.training`. Language models on GPUs train by torchrun, and so
do sharded models and all models where Horovod is missing. For several hosts call horovodrun or torchrun.
"""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from workloads.command_line import as_command, new_parser
from workloads.training.__main__ import arguments as training_arguments
from workloads.training.config import ImageClassifier, TrainingConfig
from workloads.training.load_config import load_config


def command(processes: int, arguments: list[str], horovod: bool) -> list[str]:
    """Return the command that trains with *processes* processes, which refuse any other launcher."""
    bin_directory = Path(sys.executable).parent
    if horovod:
        launcher, start = "horovod", [str(bin_directory / "horovodrun"), "-np", str(processes), sys.executable]
    else:
        launcher, start = (
            "torchrun",
            [str(bin_directory / "torchrun"), "--standalone", "--nproc-per-node", str(processes)],
        )
    return [
        *start,
        "-m",
        "workloads.training",
        *arguments,
        "--set",
        f"launcher={launcher}",
        "--set",
        f"world={processes}",
    ]


def choose_launcher(config: TrainingConfig, horovod: bool, gpus: bool) -> tuple[str, str]:
    """Return the launcher for *config*, and the reason.

    Args:
        horovod: Whether Horovod is installed.
        gpus: Whether this machine has GPUs.
    """
    if config.launcher in ("horovod", "torchrun"):
        return config.launcher, "the configuration names it"
    if config.elastic:
        return "horovod", "the run is elastic"
    if config.sharding != "none":
        return "torchrun", "its processes can share a model"
    if not horovod:
        return "torchrun", "Horovod is not installed"
    if gpus and not isinstance(config.model, ImageClassifier):
        return "torchrun", "a language model on GPUs"
    return "horovod", "a language model on CPUs" if not isinstance(config.model, ImageClassifier) else "a classifier"


def has_gpus(dev: Path = Path("/dev")) -> bool:
    """Return whether this machine has devices of NVIDIA's, AMD's or Intel's drivers."""
    return any(any(dev.glob(pattern)) for pattern in ("nvidia[0-9]*", "kfd", "accel/accel*"))


def environment(processes: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return *inherited* with an equal share of the cores for each process, which otherwise takes all cores."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **inherited}


@as_command
def main() -> int:
    parser = new_parser("workloads.training.launch", __doc__)
    parser.add_argument("-np", type=int, required=True, metavar="N", help="processes on this machine")
    args, arguments = parser.parse_known_args()
    training, _ = training_arguments().parse_known_args(arguments)
    config = load_config(training.source, training.changes)
    launcher, reason = choose_launcher(config, find_spec("horovod") is not None, has_gpus())
    print(f"launcher: {launcher} ({reason})", flush=True)
    argv = command(args.np, arguments, launcher == "horovod")
    return os.execve(argv[0], argv, environment(args.np, os.environ))


if __name__ == "__main__":
    sys.exit(main())

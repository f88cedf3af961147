"""Train with several processes on this machine: by Horovod where it is built, else by torchrun, and say which.

    python -m workloads.training.launch -np 2 digits --out out/

What follows the number goes to `python -m workloads.training`. Several hosts take horovodrun or torchrun themselves.
"""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from workloads.command_line import new_parser


def command(processes: int, arguments: list[str], horovod: bool) -> list[str]:
    """Return the command that trains with *processes*, which refuse to be started by anybody else."""
    beside = Path(sys.executable).parent
    if horovod:
        launcher, begin = "horovod", [str(beside / "horovodrun"), "-np", str(processes), sys.executable]
    else:
        launcher, begin = "torchrun", [str(beside / "torchrun"), "--nproc-per-node", str(processes)]
    return [
        *begin,
        "-m",
        "workloads.training",
        *arguments,
        "--set",
        f"launcher={launcher}",
        "--set",
        f"world={processes}",
    ]


def environment(processes: int, before: Mapping[str, str]) -> dict[str, str]:
    """Return *before* with a share of the cores for each process: they would all take all of them."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **before}


def main() -> None:
    parser = new_parser("workloads.training.launch", __doc__)
    parser.add_argument("-np", type=int, required=True, metavar="N", help="processes on this machine")
    given, arguments = parser.parse_known_args()
    horovod = find_spec("horovod") is not None
    print("Horovod leads" if horovod else "torchrun leads: Horovod is not in this environment", flush=True)
    argv = command(given.np, arguments, horovod)
    os.execve(argv[0], argv, environment(given.np, os.environ))


if __name__ == "__main__":
    main()

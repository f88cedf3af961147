"""Train with several processes on this machine, by Horovod if it is installed, else by torchrun.

    python -m workloads.training.launch -np 2 digits --out out/

The arguments after the number go to `python -m workloads.training`. For several hosts call horovodrun or torchrun.
"""

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from workloads.command_line import new_parser


def command(processes: int, arguments: list[str], horovod: bool) -> list[str]:
    """Return the command that trains with *processes* processes, which refuse any other launcher."""
    bin_directory = Path(sys.executable).parent
    if horovod:
        launcher, start = "horovod", [str(bin_directory / "horovodrun"), "-np", str(processes), sys.executable]
    else:
        launcher, start = "torchrun", [str(bin_directory / "torchrun"), "--nproc-per-node", str(processes)]
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


def environment(processes: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return *inherited* with an equal share of the cores for each process, which otherwise takes all cores."""
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)), **inherited}


def main() -> None:
    parser = new_parser("workloads.training.launch", __doc__)
    parser.add_argument("-np", type=int, required=True, metavar="N", help="processes on this machine")
    args, arguments = parser.parse_known_args()
    horovod = find_spec("horovod") is not None
    print("launcher: Horovod" if horovod else "launcher: torchrun, as Horovod is not installed", flush=True)
    argv = command(args.np, arguments, horovod)
    os.execve(argv[0], argv, environment(args.np, os.environ))


if __name__ == "__main__":
    main()

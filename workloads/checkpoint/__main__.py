"""Bring checkpoints from the hot tier to the warm one: python -m workloads.checkpoint move HOT WARM

Exit status: 0 all of them are there, 2 a directory is wrong, 4 some could not be moved, and stay where they are.
"""

import argparse
import sys
from pathlib import Path

from workloads.checkpoint import retention
from workloads.checkpoint.mover import move
from workloads.checkpoint.persist import say
from workloads.checkpoint.store import DirectoryStore


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m workloads.checkpoint", description=__doc__)
    moving = parser.add_subparsers(required=True).add_parser("move", help="copy, read back, then remove what is older")
    moving.add_argument("hot", type=Path, metavar="HOT", help="directory of a training's checkpoints")
    moving.add_argument("warm", type=Path, metavar="WARM", help="directory for them on another tier")
    moving.add_argument("--keep-hot", type=int, default=1, help="how many of the newest stay in HOT (default 1)")
    moving.add_argument("--keep-last", type=int, help="how many of the newest stay in WARM (default: all)")
    moving.add_argument("--keep-every", type=int, help="with --keep-last: multiples of this step stay as well")
    given = parser.parse_args(arguments)
    if not given.hot.is_dir():
        print(f"{given.hot}: is no directory; HOT holds a training's checkpoints. Name it.", file=sys.stderr)
        return 2
    try:
        moved = move(given.hot, DirectoryStore(given.warm), given.keep_hot, say)
        if given.keep_last:
            retention.prune(given.warm, given.keep_last, given.keep_every, say)
    except ValueError as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    print(f"copied {moved.copied}, removed from {given.hot} {moved.removed}, not moved {moved.failed}")
    return 4 if moved.failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Move checkpoints from the hot tier to the warm tier: python -m workloads.checkpoint move HOT WARM

Exit status: 0 all are in WARM, 2 a directory or number is wrong, 4 some could not be moved and stay in HOT.
"""

import argparse
import sys
from pathlib import Path

from workloads.checkpoint import retention
from workloads.checkpoint.mover import move
from workloads.checkpoint.persist import print_message
from workloads.checkpoint.store import DirectoryStore
from workloads.command_line import as_command


@as_command
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m workloads.checkpoint", description=__doc__)
    moving = parser.add_subparsers(required=True).add_parser(
        "move", help="copy, read back, then remove old checkpoints"
    )
    moving.add_argument("hot", type=Path, metavar="HOT", help="directory of a run's checkpoints")
    moving.add_argument("warm", type=Path, metavar="WARM", help="directory for the copies on another tier")
    moving.add_argument("--keep-hot", type=int, default=1, help="newest checkpoints to keep in HOT (default 1)")
    moving.add_argument("--keep-last", type=int, help="number of newest checkpoints to keep in WARM (default: all)")
    moving.add_argument("--keep-every", type=int, help="with --keep-last: also keep multiples of this step")
    args = parser.parse_args(arguments)
    if not args.hot.is_dir():
        print(f"{args.hot}: is no directory; HOT is the directory of a run's checkpoints. Name it.", file=sys.stderr)
        return 2
    try:
        result = move(args.hot, DirectoryStore(args.warm), args.keep_hot, print_message)
        if args.keep_last:
            retention.prune(args.warm, args.keep_last, args.keep_every, print_message)
    except ValueError as error:
        print(f"{error}.", file=sys.stderr)
        return 2
    print(f"copied {result.copied}, removed from {args.hot} {result.removed}, not moved {result.failed}")
    return 4 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())

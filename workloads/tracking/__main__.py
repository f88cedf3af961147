"""Send the metrics of the run in DIR to an MLflow server, and register its result.

    python -m workloads.tracking DIR --tracking https://tracking.example:5000
    python -m workloads.tracking DIR --register digits

The account comes from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or from a file of credentials.
"""

import os
import sys
from pathlib import Path

from workloads.command_line import as_command, new_parser
from workloads.tracking.registry import register
from workloads.tracking.server import URL, connect
from workloads.tracking.tracker import Tracker

STATUS = "Exit status: 0 the server has all data, 2 bad input or refused, 3 server not reached."


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.tracking", __doc__, STATUS)
    parser.add_argument("directory", type=Path, metavar="DIR", help="directory of the run")
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"address of the server (default: {URL})"
    )
    parser.add_argument("--register", metavar="MODEL", help="register its final checkpoint as a version of this model")
    parser.add_argument("--journal", default="metrics.jsonl", metavar="FILE", help="name of the metrics file")
    args = parser.parse_args(argv)
    server = connect(args.tracking, os.environ)
    Tracker(server, args.directory, print, args.journal).send()
    if args.register:
        print(f"{register(server, args.directory, args.register)} is registered")
    return 0


if __name__ == "__main__":
    sys.exit(main())

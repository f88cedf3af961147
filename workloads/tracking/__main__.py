"""Tell an MLflow server what a run in DIR has kept for it, and register what came of it.

    python -m workloads.tracking DIR --tracking https://tracking.example:5000
    python -m workloads.tracking DIR --register digits

The account comes from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or from a file of credentials.
"""

import os
import sys
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.tracking.registry import register
from workloads.tracking.server import URL, connect
from workloads.tracking.tracker import Tracker

STATUS = "Exit status: 0 the server has all, 2 wrong or refused, 3 not reached."


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.tracking", __doc__, STATUS)
    parser.add_argument("directory", type=Path, metavar="DIR", help="what the run writes to")
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"the server; {URL} says it, too"
    )
    parser.add_argument("--register", metavar="MODEL", help="let its newest checkpoint be a version of this model")
    parser.add_argument("--journal", default="metrics.jsonl", metavar="FILE", help="its file of metrics")
    given = parser.parse_args(argv)
    try:
        server = connect(given.tracking, os.environ)
        Tracker(server, given.directory, print, given.journal).send()
        if given.register:
            print(f"{register(server, given.directory, given.register)} is registered")
        return 0
    except WorkloadError as error:
        print(error, file=sys.stderr)
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main())

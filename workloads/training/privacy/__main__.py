"""Print the ledger of a data set, or the receipt of a finished run, as JSON.

python -m workloads.training.privacy ledger /srv/warm/privacy letters
python -m workloads.training.privacy receipt /srv/hot/runs/letters
"""

import json
import sys
from pathlib import Path

from workloads.command_line import as_command, new_parser

STATUS = "Exit status: 0 printed, 2 there is no such ledger or run."


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.training.privacy", __doc__, STATUS)
    commands = parser.add_subparsers(dest="command", required=True)
    ledger = commands.add_parser("ledger", help="what all runs on a data set have used together")
    ledger.add_argument("directory", type=Path, metavar="DIR", help="directory of the ledger")
    ledger.add_argument("data", metavar="NAME", help="name of the data set")
    signed = commands.add_parser("receipt", help="what the model of a run promises")
    signed.add_argument("directory", type=Path, metavar="DIR", help="directory of the run")
    args = parser.parse_args(argv)
    from workloads.training.privacy import report
    from workloads.training.privacy.ledger import Ledger

    if args.command == "ledger":
        print(json.dumps(report.ledger_data(Ledger(args.directory, args.data))))
    else:
        from workloads.training.privacy.receipts import receipt

        print(json.dumps(receipt(args.directory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

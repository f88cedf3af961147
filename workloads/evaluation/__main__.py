"""Evaluate a served language model on local data, and compare it with an earlier report.

    python -m workloads.evaluation https://gpu-01:8443 --model qwen3 --tokenizer models/qwen3 \\
        --choices exam.jsonl --texts manuals.jsonl --out new.json --against served.json

--choices has questions: {"question": "…", "choices": ["…", "…"], "answer": 0}. The model chooses the answer that it
finds most likely. --texts has texts: {"text": "…"}; their figure is bits per byte, which models with different
tokenizers have in common, and lower is better. No row leaves this computer but to the server, and none is kept. The
environment is that of `rackwright toolchain evaluation`.
"""

import json
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.evaluation import gate
from workloads.evaluation.data import read_files
from workloads.evaluation.harness import library_settings, measure
from workloads.evaluation.served import ServedModel, check
from workloads.files import write_atomic
from workloads.training.tokenizer import load_tokenizer

STATUS = "Exit status: 0 evaluated, 1 worse than --against or --at-least, 2 wrong input, 3 the server did not answer."
KEY = "RACKWRIGHT_SERVER_KEY"
"""Environment variable with the API key: every account can read a command line."""


def _parser() -> ArgumentParser:
    parser = new_parser("workloads.evaluation", __doc__, f"{STATUS} The API key is read from {KEY}.")
    parser.add_argument("url", metavar="URL", help="address of the server, without /v1")
    parser.add_argument("--model", required=True, help="the model's name at the server")
    parser.add_argument("--tokenizer", required=True, type=Path, metavar="DIR", help="directory with its tokenizer")
    parser.add_argument(
        "--choices", type=Path, action="append", default=[], metavar="FILE", help="questions, JSON Lines"
    )
    parser.add_argument("--texts", type=Path, action="append", default=[], metavar="FILE", help="texts, JSON Lines")
    parser.add_argument("--out", type=Path, metavar="REPORT", help="file for the report, JSON")
    parser.add_argument("--against", type=Path, metavar="REPORT", help="report of the model that this one may replace")
    may_lose = "largest loss against that report: of accuracy, or of bits per byte as a share (default %(default)s)"
    parser.add_argument("--may-lose", type=float, default=0.01, metavar="SHARE", help=may_lose)
    parser.add_argument("--at-least", type=float, metavar="ACCURACY", help="smallest accuracy on each file of choices")
    parser.add_argument(
        "--context-tokens", type=int, default=4096, metavar="N", help="context of the model (default %(default)s)"
    )
    parser.add_argument("--parallel", type=int, default=8, metavar="N", help="requests at once (default %(default)s)")
    parser.add_argument("--authorities", default="", metavar="FILE", help="certificates that sign the server's")
    return parser


def evaluate(argv: list[str] | None = None) -> int:
    """Run the command, and return its exit status.

    Raises:
        UserError: The input is wrong, or the server does not answer.
    """
    args = _parser().parse_args(argv)
    data, problems = read_files(args.choices, args.texts)
    if not data and not problems:
        problems.append(Diagnostic("--choices", "there is nothing to evaluate", "--choices or --texts", "Name a file"))
    earlier = gate.read_report(args.against) if args.against and not problems else None
    if problems:
        raise UserError(*problems)
    served = ServedModel(
        args.url,
        args.model,
        args.tokenizer,
        os.environ.get(KEY, ""),
        args.authorities,
        args.parallel,
        args.context_tokens,
    )
    with library_settings():
        load_tokenizer(str(args.tokenizer), "--tokenizer")  # before the harness takes its name for one on the internet
        check(served)
        report: dict[str, Any] = {"model": args.model, "url": args.url, "results": measure(served, data)}
    shortfalls = gate.shortfalls(report, earlier, args.may_lose, args.at_least)
    report |= {"against": str(args.against) if args.against else None, "shortfalls": shortfalls}
    for line in gate.lines(report, earlier):
        print(line, flush=True)
    if args.out:
        write_atomic(args.out, json.dumps(report, indent=2) + "\n")
    return 1 if shortfalls else 0


@as_command
def main(argv: list[str] | None = None) -> int:
    return evaluate(argv)


if __name__ == "__main__":
    sys.exit(main())

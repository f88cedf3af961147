"""Quantise the weights of a language model, and publish the result if it keeps its accuracy on your data.

    python -m workloads.quantize.language_model exported/run --to int4 --texts manuals.jsonl --out quantised/run
    python -m workloads.quantize.language_model Qwen3-32B --to fp8 --choices exam.jsonl --may-lose 0.005 --out qwen3-fp8
    python -m workloads.quantize.language_model exported/run --to int8 --training out/run --out quantised/run

MODEL is a directory of `python -m workloads.export --to huggingface`, or another one that `save_pretrained` wrote, with
weights in bf16, fp16 or fp32. int8 and int4 are for weights alone; fp8 has blocks of 128x128, as DeepSeek-V3's own
checkpoint. Embeddings, head, norms and routers stay as they are. Files are converted one after the other, so a model
may be larger than the memory; the gate loads the whole model, before and after. Rows of --texts and --choices are those
of `python -m workloads.evaluation`; --training names a run, whose held-out answers judge. `python -m
workloads.serving.vllm` publishes the result. DIR.report.json has all figures, whether DIR is written or not.
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.evaluation import gate
from workloads.evaluation.data import EvaluationData, read_files
from workloads.output_directory import OutputDirectory, add_arguments
from workloads.serving.exported import EXPORT

STATUS = "Exit status: 0 quantised, 1 less accurate than --may-lose allows, 2 wrong input or refused."


def _parser() -> ArgumentParser:
    parser = new_parser("workloads.quantize.language_model", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="directory with safetensors and config.json")
    parser.add_argument("--to", choices=("int8", "int4", "fp8"), required=True, help="format of the weights")
    add_arguments(parser, "the quantised model")
    parser.add_argument("--texts", type=Path, action="append", default=[], metavar="FILE", help="texts, JSON Lines")
    parser.add_argument(
        "--choices", type=Path, action="append", default=[], metavar="FILE", help="questions, JSON Lines"
    )
    parser.add_argument("--training", type=Path, metavar="RUN", help="directory of a run, whose held-out data judges")
    may_lose = "largest loss: of accuracy, or of bits per byte as a share (default %(default)s)"
    parser.add_argument("--may-lose", type=float, default=0.01, metavar="SHARE", help=may_lose)
    unmeasured = "write DIR without a gate, for a model that this computer cannot load; REASON goes into its lineage"
    parser.add_argument("--unmeasured", metavar="REASON", help=unmeasured)
    parser.add_argument(
        "--context-tokens", type=int, default=2048, metavar="N", help="tokens of a window (default %(default)s)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="device of the gate (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON; progress goes to stderr")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return _quantize(args)


def _quantize(args: Namespace) -> int:
    output = OutputDirectory(args.out, EXPORT, args.replace, ".report.json")
    output.check()  # before the imports and the data, which need seconds
    files = _data(args)
    from workloads.quantize.language_model.measure import ModelMeter, held_out_sets
    from workloads.quantize.language_model.run import quantize

    def progress(text: str) -> None:
        print(text, file=sys.stderr if args.json else sys.stdout, flush=True)

    meter = None
    if not args.unmeasured:
        sets = held_out_sets(args.training) if args.training else []
        meter = ModelMeter(files, sets, args.context_tokens, args.device)
    report = quantize(args.model, args.to, output, meter, args.may_lose, args.unmeasured, progress)
    if args.json:
        print(json.dumps(report.to_json(), indent=2), flush=True)
    else:
        for line in gate.lines(report.evaluation, report.before):
            print(line, flush=True)
    if report.shortfalls:
        print(f"not published: {'; '.join(report.shortfalls)}; see {report.path}", file=sys.stderr, flush=True)
        return 1
    if not args.json:
        print(f"quantised {args.out}: {report.summary()}", flush=True)
    return 0


def _data(args: Namespace) -> list[EvaluationData]:
    """Return the files that measure the model.

    Raises:
        UserError: Arguments are wrong, or files; all of them are in the error.
    """
    data, problems = read_files(args.choices, args.texts)
    measured = bool(args.texts or args.choices or args.training)
    if args.unmeasured and measured:
        problem, help = "the gate has data, and is to be left out", "Leave --unmeasured out, or the data"
        problems.append(Diagnostic("--unmeasured", problem, "one of both", help))
    if not args.unmeasured and not measured:
        expected = "--texts, --choices or --training"
        note = "--unmeasured REASON leaves the gate out"
        problems.append(Diagnostic("--texts", "the gate has no data", expected, "Name a file of texts", note))
    if args.context_tokens < 2:
        problem = f"{args.context_tokens} is too few"
        problems.append(Diagnostic("--context-tokens", problem, "2 or more", "Choose a larger number"))
    if not args.may_lose >= 0:
        problem = f"{args.may_lose} is no share"
        problems.append(Diagnostic("--may-lose", problem, "0 or more", "Choose another number"))
    if problems:
        raise UserError(*problems)
    return data


if __name__ == "__main__":
    sys.exit(main())

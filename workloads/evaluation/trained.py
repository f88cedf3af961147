"""Ask a fine-tuned language model and its parent questions with choices, in this process.

    python -m workloads.evaluation.trained out/run --choices exam.jsonl --out choices.json

RUN is the directory of a fine-tuning. The rows of --choices are those of `python -m workloads.evaluation`, and
choices.json has the figures of both models in the form of its reports: `before` those of the parent, `after` those of
the trained model. The command only measures; it judges nothing.
"""

import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.command_line import as_command, new_parser
from workloads.evaluation.data import EvaluationData, read
from workloads.files import write_atomic

if TYPE_CHECKING:
    from workloads.export.trained import TrainedModel

STATUS = "Exit status: 0 measured, 2 wrong input."


def compare(run: Path, questions: EvaluationData, context_tokens: int, device: str) -> dict[str, list[dict[str, Any]]]:
    """Return the figures of the parent of *run* as `before`, and those of its model as `after`.

    Args:
        context_tokens: Tokens before and of a choice that a model reads; the beginning of longer ones is left out.
        device: auto or cpu.

    Raises:
        UserError: The directory is none of a fine-tuning of a language model, or its files have changed.
    """
    from workloads.export.trained import load, load_parent

    def measure(model: "TrainedModel") -> list[dict[str, Any]]:
        return _measure(model, questions, context_tokens, device)

    before = measure(load_parent(run))
    gc.collect()  # a large model has room for itself alone
    return {"before": before, "after": measure(load(run))}


def _measure(
    trained: "TrainedModel", questions: EvaluationData, context_tokens: int, device: str
) -> list[dict[str, Any]]:
    from workloads.export.hugging_face import byte_tokenizer
    from workloads.quantize.language_model.measure import ModelMeter
    from workloads.training import lora
    from workloads.training.tokenizer import load_tokenizer

    meter = ModelMeter([questions], [], context_tokens, device)
    directory = trained.tokenizer
    tokenizer: Any = load_tokenizer(str(directory), str(directory)) if directory else byte_tokenizer()
    lora.merge(trained.model.model)
    model: Any = trained.model.model
    return meter.measure_model(model.to(meter.device.torch), tokenizer)


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.evaluation.trained", __doc__, STATUS)
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a fine-tuning")
    parser.add_argument("--choices", required=True, type=Path, metavar="FILE", help="questions, JSON Lines")
    parser.add_argument("--out", required=True, type=Path, metavar="REPORT", help="file for the figures, JSON")
    context = "tokens of a window (default %(default)s)"
    parser.add_argument("--context-tokens", type=int, default=2048, metavar="N", help=context)
    parser.add_argument("--device", choices=("auto", "cpu"), default="auto", help="device (default %(default)s)")
    args = parser.parse_args(argv)
    figures = compare(args.run, read("choices", args.choices), args.context_tokens, args.device)
    write_atomic(args.out, json.dumps(figures, indent=1) + "\n")
    for before, after in zip(figures["before"], figures["after"], strict=True):
        text = f"{before['accuracy']:.4f} before, {after['accuracy']:.4f} after, on {after['rows']} questions"
        print(f"{after['data']}: {text}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare two models on rows that neither has learned from: those held out of all data of a training.

    python -m workloads.quantize.compare published/digits out/ --training out/ --out compared.json

BEFORE and AFTER are a MODEL of `python -m workloads.quantize`, or its published result. FILE lists each dataset of the
training in DIR, its own first: how many held-out rows it has, and the share that each model classifies correctly. The
command only measures; it judges nothing.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.quantize.run import THREADS
from workloads.quantize.samples import Samples
from workloads.quantize.score import answers, outputs
from workloads.quantize.source import SourceModel, source
from workloads.quantize.targets import CPU
from workloads.training import data, rows
from workloads.training.fine_tuning import HeldOutSet
from workloads.training.parent_model import parse_data

STATUS = "Exit status: 0 compared, 1 a model is damaged, 2 wrong input."


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """The accuracy of two models on one dataset."""

    data: str
    rows: int
    before: float | None
    """The share of correct rows; None if no row is left to judge."""
    after: float | None


def compare(before: Path, after: Path, training: Path) -> list[ModelComparison]:
    """Return the accuracy of two models on the held-out rows of each dataset of *training*, its own first.

    Raises:
        UserError: one of the three is no model, is damaged, or has other inputs.
    """
    with tempfile.TemporaryDirectory(prefix="rackwright-") as directory:
        scratch = Path(directory)
        each_once = dict.fromkeys((training, before, after))
        sources = {path: _source(path, scratch / str(number)) for number, path in enumerate(each_once)}
        trained_source, models = sources[training], (sources[before], sources[after])
        if "training" not in trained_source.lineage:
            problem, expected = f"{training} names no training data", "the directory of a training"
            raise UserError(Diagnostic("--training", problem, expected, "Name such a directory"))
        for model in models:
            if (model.inputs, len(model.outputs)) != (trained_source.inputs, 1):
                problem = f"the model {model.name} has inputs {', '.join(map(str, model.inputs))}"
                expected = f"the inputs of the training: {', '.join(map(str, trained_source.inputs))}"
                raise UserError(Diagnostic(str(training), problem, expected, "Compare models of one kind"))
        datasets = parse_data(trained_source.lineage["training"]["data"])
        name = trained_source.inputs[0].name
        training_digests = {digest for each in datasets for digest in rows.digests({name: data.load(each).x.numpy()})}
        return [_compare_on(HeldOutSet(each, data.held_out(each)), name, training_digests, models) for each in datasets]


def _source(path: Path, scratch: Path) -> SourceModel:
    scratch.mkdir()
    return source(path, scratch)


def _compare_on(
    held: HeldOutSet, name: str, training_digests: set[str], models: Sequence[SourceModel]
) -> ModelComparison:
    """Return the accuracy of both *models* on the held-out rows of one dataset that no other dataset trains on."""
    x = held.examples.x.numpy()
    held_out_rows = np.flatnonzero([digest not in training_digests for digest in rows.digests({name: x})])
    if not len(held_out_rows):
        return ModelComparison(held.name, 0, None, None)
    samples, labels = Samples({name: x[held_out_rows]}, None), held.examples.y.numpy()[held_out_rows]

    def accuracy(model: SourceModel) -> float:
        # as in the gate: 8-bit models for other processors overflow on this one unless they run unfused
        fused = model.lineage.get("target", CPU) == CPU
        return float((answers(outputs(model.path, samples, THREADS, fused), "classify") == labels).mean())

    return ModelComparison(held.name, len(held_out_rows), accuracy(models[0]), accuracy(models[1]))


@as_command
def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("workloads.quantize.compare", __doc__, STATUS)
    parser.add_argument("before", metavar="BEFORE", type=Path, help="a model")
    parser.add_argument("after", metavar="AFTER", type=Path, help="another model with the same inputs")
    parser.add_argument(
        "--training", required=True, type=Path, metavar="DIR", help="the training whose held-out rows judge"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON")
    args = parser.parse_args(argv)
    comparisons = compare(args.before, args.after, args.training)
    partial = args.out.with_name(f".{args.out.name}.partial")
    partial.write_text(json.dumps([asdict(each) for each in comparisons], indent=1) + "\n")
    partial.replace(args.out)
    for each in comparisons:
        result = "no row judges" if each.before is None else f"{each.before:.4f} before, {each.after:.4f} after"
        print(f"{each.data}: {result}, on {each.rows} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Compare two models on rows of which neither has learned any: those held out of all that a training knows.

    python -m workloads.quantize.compare published/digits out/ --training out/ --out compared.json

BEFORE and AFTER are what `python -m workloads.quantize` takes as MODEL, or has published. FILE has, for each set that
the training in DIR has learned from, its own first, how many rows judged and the share that each model had right. It
judges nothing itself.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.quantize.run import THREADS
from workloads.quantize.samples import Samples
from workloads.quantize.score import answers, outputs
from workloads.quantize.source import Source, source
from workloads.quantize.targets import CPU
from workloads.training import data, rows
from workloads.training.fine_tuning import HeldOutSet
from workloads.training.parent_model import parse_data

STATUS = "Exit status: 0 compared, 1 a model is damaged, 2 wrong or refused."


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models on one set of data."""

    data: str
    rows: int
    before: float | None
    """The share that is right; None where no row judges."""
    after: float | None


def compare(before: Path, after: Path, training: Path) -> list[Compared]:
    """Return how two models do on what is held out of each set that *training* has learned from, its own first.

    Raises:
        WorkloadError: one is no model, is damaged, or takes other rows.
    """
    with tempfile.TemporaryDirectory(prefix="rackwright-") as place:
        scratch = Path(place)
        each_once = dict.fromkeys((training, before, after))
        made = {what: _source(what, scratch / str(number)) for number, what in enumerate(each_once)}
        trained, models = made[training], (made[before], made[after])
        if "training" not in trained.lineage:
            want, fix = "a training's directory says what it has learned from", "Name that"
            raise WorkloadError("--training", f"got {training}", want, fix)
        for model in models:
            if (model.inputs, len(model.outputs)) != (trained.inputs, 1):
                got = f"got {model.name} with inputs {', '.join(map(str, model.inputs))}"
                raise WorkloadError(str(training), got, "both models take what it takes", "Compare models of one kind")
        known = parse_data(trained.lineage["training"]["data"])
        name = trained.inputs[0].name
        learned = {digest for each in known for digest in rows.digests({name: data.load(each).x.numpy()})}
        return [_compared(HeldOutSet(each, data.held_out(each)), name, learned, models) for each in known]


def _source(what: Path, scratch: Path) -> Source:
    scratch.mkdir()
    return source(what, scratch)


def _compared(held: HeldOutSet, name: str, learned: set[str], models: Sequence[Source]) -> Compared:
    """Return how both of *models* do on what is held out of one set and was *learned* from no other either."""
    x = held.examples.x.numpy()
    unseen = np.flatnonzero([digest not in learned for digest in rows.digests({name: x})])
    if not len(unseen):
        return Compared(held.name, 0, None, None)
    samples, labels = Samples({name: x[unseen]}, None), held.examples.y.numpy()[unseen]

    def accuracy(model: Source) -> float:
        # as quantising judges it: 8 bits for another processor overflow on this one, unless they are not fused
        fused = model.lineage.get("target", CPU) == CPU
        return float((answers(outputs(model.path, samples, THREADS, fused), "classify") == labels).mean())

    return Compared(held.name, len(unseen), accuracy(models[0]), accuracy(models[1]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = new_parser("workloads.quantize.compare", __doc__, STATUS)
    parser.add_argument("before", metavar="BEFORE", type=Path, help="a model")
    parser.add_argument("after", metavar="AFTER", type=Path, help="another one that takes the same")
    parser.add_argument("--training", required=True, type=Path, metavar="DIR", help="whose data judge")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON")
    given = parser.parse_args(argv)
    try:
        found = compare(given.before, given.after, given.training)
    except WorkloadError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    partial = given.out.with_name(f".{given.out.name}.partial")
    partial.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    partial.replace(given.out)
    for each in found:
        told = "nothing judges" if each.before is None else f"{each.before:.4f} before, {each.after:.4f} after"
        print(f"{each.data}: {told}, on {each.rows} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())

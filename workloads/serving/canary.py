"""Check the share of labelled rows that a model answers correctly, before any client asks it.

    python -m workloads.serving.canary MODEL ROWS.npz SHARE

A pod runs this command before its server, so that a wrong model never becomes ready. ROWS.npz has an array for each
input, by its name, and `labels`.
"""

import os
import sys
from pathlib import Path

import numpy as np

from workloads import config_file
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.process_variables import as_environment
from workloads.serving.ask import read_rows
from workloads.serving.runtimes import EmbeddingRuntime, ForwardedRuntime, LanguageRuntime, Runtime, load_runtime
from workloads.serving.settings import ServingSettings
from workloads.serving.wire import DTYPES

STATUS = "Exit status: 0 enough rows are correct, 1 too few are, 2 wrong input."
WRONG = 1


def measure(runtime: Runtime, rows: Path, max_batch: int) -> float:
    """Return the share of the rows in the file *rows* that *runtime* classifies as their labels say.

    Raises:
        UserError: the file does not fit the model.
    """
    arrays, labels = read_rows(runtime.model, rows)
    right = 0
    for first in range(0, len(labels), max_batch):
        inputs = {
            tensor.name: arrays[tensor.name][first : first + max_batch].astype(DTYPES[tensor.datatype])
            for tensor in runtime.model.inputs
        }
        scores = np.asarray(runtime.infer(inputs)[runtime.model.outputs[0].name])
        right += int((scores.reshape(len(scores), -1).argmax(1) == labels[first : first + max_batch]).sum())
    return right / len(labels)


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.canary", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="directory of the model")
    parser.add_argument("rows", metavar="ROWS.npz", type=Path, help="labelled rows, written by numpy.savez")
    parser.add_argument("share", metavar="SHARE", type=float, help="least share of correct rows, such as 0.95")
    config_file.add_arguments(parser, "threads=1")
    args = parser.parse_args(argv)
    settings = config_file.settings(ServingSettings, args)
    os.environ.update(as_environment(settings.variables))
    runtime = load_runtime(args.model, settings)
    if isinstance(runtime, LanguageRuntime | EmbeddingRuntime | ForwardedRuntime):
        help = "Check a language model with `python -m workloads.evaluation`"
        raise UserError(Diagnostic(str(args.model), "the model is a language model", "a classifier", help))
    accuracy = measure(runtime, args.rows, settings.max_batch)
    print(f"the canary is {accuracy:.4%} correct, at least {args.share:.2%} is required", flush=True)
    return 0 if accuracy >= args.share else WRONG


if __name__ == "__main__":
    sys.exit(main())

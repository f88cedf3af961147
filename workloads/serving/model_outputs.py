"""Print the outputs of a model for fixed inputs, which follow from its metadata alone, as one JSON document.

    python -m workloads.serving.model_outputs MODEL

Two copies of a model that print the same outputs can serve the same requests. A restore test compares them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workloads import config_file
from workloads.command_line import new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.serving.model import Tensor, read
from workloads.serving.runtimes import ForwardedRuntime, LanguageRuntime, Runtime, load_runtime
from workloads.serving.settings import ServingSettings
from workloads.serving.wire import DTYPES

STATUS = "Exit status: 0 the outputs were printed, 1 a file is damaged, 2 the model cannot be loaded here."
WRITERS = ("llama.cpp", "vllm")
"""Runtimes of language models, which are not loaded here: their text depends on more than the model."""
ROWS = 4
FREE_SIZE = 8
"""The size of a dimension without a declared size, behind the batch."""
VALUES_MAX = 256
"""The most values of one output that are printed: enough to tell two models apart."""


def inputs_for(tensors: tuple[Tensor, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Return random inputs of *tensors*, which are the same for every copy of the model.

    Floats are between 0 and 1, and integers 0 or 1, which each vocabulary has.
    """
    # RandomState and not Generator: its numbers stay the same in each version of NumPy (NEP 19)
    random = np.random.RandomState(0)
    return {tensor.name: _values(random, DTYPES[tensor.datatype], tuple(_shape(tensor.shape))) for tensor in tensors}


def _shape(shape: tuple[int, ...]) -> list[int]:
    sizes = [FREE_SIZE if size < 0 else size for size in shape]
    return [ROWS, *sizes[1:]] if shape[:1] == (-1,) else sizes


def _values(random: np.random.RandomState, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if dtype.kind == "O":
        return np.full(shape, "a", dtype)
    values = random.random_sample(shape) if dtype.kind == "f" else random.randint(0, 2, shape)
    return np.asarray(values).astype(dtype)


def outputs(runtime: Runtime) -> Mapping[str, list[float]]:
    """Return the first values of each output of *runtime* for the fixed inputs, by name.

    Raises:
        UserError: an output has values that are no numbers.
    """
    results = runtime.infer(inputs_for(runtime.model.inputs))
    if texts := [name for name, values in results.items() if np.asarray(values).dtype.kind not in "biuf"]:
        problem = f"the outputs {', '.join(texts)} are no numbers"
        raise UserError(Diagnostic(runtime.model.name, problem, help="Compare the answers of its server"))
    return {name: np.asarray(values, np.float64).ravel()[:VALUES_MAX].tolist() for name, values in results.items()}


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.model_outputs", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="directory of the model")
    config_file.add_arguments(parser, "threads=1")
    args = parser.parse_args(argv)
    try:
        settings = config_file.settings(ServingSettings, args)
        runtime = None if read(args.model).runtime in WRITERS else load_runtime(args.model, settings)
        if runtime is None or isinstance(runtime, LanguageRuntime | ForwardedRuntime):
            help = "Compare a language model with `python -m workloads.evaluation`"
            raise UserError(Diagnostic(str(args.model), "a language model has no fixed outputs", help=help))
        print(json.dumps({"runtime": runtime.description, "outputs": outputs(runtime)}), flush=True)
    except UserError as error:
        print_error(error)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())

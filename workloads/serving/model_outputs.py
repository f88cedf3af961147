"""Print the outputs of a model for fixed inputs as one JSON document.

    python -m workloads.serving.model_outputs MODEL

Inputs of arrays follow from the metadata of the model alone. Prompts of a language model are fixed, and its outputs are
the log probabilities of the likeliest next tokens. Two copies of a model that print the same outputs can serve the same
requests. A restore test compares them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workloads import config_file
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.serving.model import Tensor, read
from workloads.serving.runtimes import (
    EmbeddingRuntime,
    ForwardedRuntime,
    LanguageRuntime,
    Runtime,
    ScoringRuntime,
    load_runtime,
)
from workloads.serving.settings import ServingSettings
from workloads.serving.wire import DTYPES

STATUS = "Exit status: 0 the outputs were printed, 1 a file is damaged, 2 the model cannot be loaded here."
PROMPTS = ("The capital of France is", "1, 2, 3, 4,", "def add(a, b):\n    return", "Wasser besteht aus")
TOKENS = 20
"""Next tokens of each prompt whose scores are printed. Texts would differ after the first tie of two tokens."""
FORWARDED = "vllm"
"""The runtime that needs an accelerator, and minutes until its first answer."""
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


def scores(runtime: ScoringRuntime) -> Mapping[str, list[float]]:
    """Return the log probabilities of the likeliest next tokens after each of the fixed prompts, largest first."""
    return {prompt: runtime.next_token_log_probabilities(prompt, TOKENS) for prompt in PROMPTS}


def _load(directory: Path, settings: ServingSettings) -> Runtime | ScoringRuntime:
    """Return the loaded model in *directory*.

    Raises:
        UserError: it is damaged, or its runtime returns no scores or is not installed.
    """
    runtime = None if read(directory).runtime == FORWARDED else load_runtime(directory, settings)
    if runtime is None or isinstance(runtime, ForwardedRuntime):
        problem, help = (
            f"a model for {FORWARDED} is not loaded here",
            "Compare it with `python -m workloads.evaluation`",
        )
        raise UserError(Diagnostic(str(directory), problem, help=help))
    if isinstance(runtime, EmbeddingRuntime):
        problem, help = "an embedding model has no fixed inputs", "Ask it at /v1/embeddings"
        raise UserError(Diagnostic(str(directory), problem, help=help))
    if isinstance(runtime, LanguageRuntime):
        assert isinstance(runtime, ScoringRuntime), runtime.description
    return runtime


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.model_outputs", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", type=Path, help="directory of the model")
    config_file.add_arguments(parser, "threads=1")
    args = parser.parse_args(argv)
    settings = config_file.settings(ServingSettings, args)
    runtime = _load(args.model, settings)
    printed = scores(runtime) if isinstance(runtime, ScoringRuntime) else outputs(runtime)
    print(json.dumps({"runtime": runtime.description, "outputs": printed}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Print the layouts in which vLLM can serve a language model on GPUs, with the memory of each GPU.

    python -m workloads.serving.fit deepseek-r1 --gpu h100-sxm --gpus 8 --hosts 2
    python -m workloads.serving.fit Qwen3-32B --gpu h200 --context-tokens 32768 --parallel 16 --json

MODEL is a directory with safetensors and config.json, a published model, a config.json of a known sort, or a name of
the catalogue. Nothing is loaded. Each line has a layout, the bytes on the GPU that needs the most, the tokens that the
cache has room for, and the options of vLLM. Layouts that do not fit follow with --all. The memory that vLLM needs
besides weights and cache is computed, and was never measured by us.
"""

import json
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from workloads.catalogue.accelerators import gpu_memory_bytes, gpu_names, gpu_without_environment
from workloads.catalogue.models import model_config, model_names, model_title
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.foreign import parse_json, read_file
from workloads.serving.fit.checkpoint import read_tensors
from workloads.serving.fit.layout import Gpus, Load, Wish, reported_bytes
from workloads.serving.fit.memory import gb
from workloads.serving.fit.notes import layout_notes
from workloads.serving.fit.search import Fit, best_fit, fits
from workloads.serving.fit.sizes import Sizes, computed_sizes, parse_sizes, sizes
from workloads.serving.model import NAME, read

STATUS = "Exit status: 0 a layout fits, 1 none fits, 2 wrong input."
CONFIG = "config.json"
CONTEXT_TOKENS = 4096
"""Tokens of a text unless others are given, or the model takes fewer."""


def arguments() -> ArgumentParser:
    parser = new_parser("workloads.serving.fit", __doc__, STATUS)
    parser.add_argument("model", metavar="MODEL", help=f"directory, config.json, or one of {', '.join(model_names())}")
    parser.add_argument("--gpu", required=True, metavar="NAME", help="GPU of the catalogue, such as h100-sxm")
    parser.add_argument("--gpus", type=int, default=8, metavar="N", help="GPUs of each host (8)")
    parser.add_argument("--hosts", type=int, default=1, metavar="N", help="the most hosts of one replica (1)")
    parser.add_argument("--context-tokens", type=int, metavar="N", help="tokens of a prompt and its answer (4096)")
    parser.add_argument(
        "--parallel", type=int, default=4, metavar="N", help="texts at once, all of them at full length (4)"
    )
    parser.add_argument("--kv-cache-dtype", choices=("auto", "fp8"), default="auto", help="precision of the cache")
    parser.add_argument("--speculative", action="store_true", help="count the layers for multi-token prediction")
    for name in ("tensor", "pipeline", "data", "decode-context"):
        parser.add_argument(f"--{name}-parallel", type=int, metavar="N", help="only layouts with this number")
    parser.add_argument(
        "--expert-parallel", choices=("true", "false"), help="only layouts with, or without, whole experts"
    )
    parser.add_argument("--all", action="store_true", help="print the layouts that do not fit as well")
    parser.add_argument("--json", action="store_true", help="print the layouts as JSON")
    return parser


@as_command
def main(argv: list[str] | None = None) -> int:
    args = arguments().parse_args(argv)
    try:
        gpus = _gpus(args)
        title, model = _model(args.model)
        load = _load(args, gpus, model)
        wish = _wish(args)
        found = fits(model, gpus, load, wish)
        chosen = found if args.all else [fit for fit in found if fit.fits]
        if args.json:
            print(json.dumps([_data(fit) for fit in chosen], indent=1))
        else:
            print(f"{title}: {describe_model(model)}")
            print(f"{gpus.hosts} x {gpus.per_host} {args.gpu}, {gb(gpus.room)} of each GPU for vLLM; "
                  f"context_tokens {load.context_tokens}, parallel {load.parallel}")  # fmt: skip
            print(*(table(chosen) if chosen else ()), sep="\n", end="\n" if chosen else "", flush=True)
            first = next((fit for fit in found if fit.fits), None)
            for note in layout_notes(model, first.layout, gpus) if first else ():
                print(f"The first layout: {note}", flush=True)
            if name := gpu_without_environment(args.gpu):
                print(f"No environment of rackwright computes on {name}: a server names one of its own.", flush=True)
        if not any(fit.fits for fit in found) or load.context_tokens > model.context_tokens:
            best_fit(model, gpus, load, wish)
    except UserError as error:
        print_error(error)
        return 1 if error.diagnostic.where == "vLLM" else error.exit_status
    return 0


def describe_model(model: Sizes) -> str:
    """Return the sizes of *model*, in words."""
    draft = f", and {gb(model.draft_bytes)} for speculative decoding" if model.draft_bytes else ""
    per_token = f"{model.cache_bytes_per_token / 1e3:.1f} kB of cache for each token"
    if model.window_bytes_per_token:
        per_token += f", {model.window_bytes_per_token / 1e3:.1f} kB for each of the last {model.window_tokens}"
    if model.text_bytes:
        per_token += f", and {model.text_bytes / 1e6:.1f} MB for each text"
    return f"{gb(model.weight_bytes)} of weights in {model.layers} layers{draft}; {per_token}"


def table(found: list[Fit]) -> list[str]:
    """Return one line for each layout: its parts, the memory of the GPU that needs the most, tokens and options."""
    heads = ("layout", "weights", "cache", "beside", "in all", "tokens", "options of vLLM")
    rows = [heads, *map(_row, found)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(heads) - 1)]
    aligned = [
        [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:-1], widths[1:], strict=True))]
        for row in rows
    ]
    return ["  ".join([*texts, row[-1]]) for texts, row in zip(aligned, rows, strict=True)]


def _row(fit: Fit) -> tuple[str, ...]:
    largest = max(fit.stages, key=lambda stage: stage.total)
    hosts = f"{fit.layout.hosts} hosts: " if fit.layout.hosts > 1 else ""
    sizes = [gb(size) for size in (largest.weights, largest.cache, largest.beside, largest.total)]
    mark = "" if fit.fits else "does not fit: "
    return f"{mark}{hosts}{fit.layout}", *sizes, str(fit.tokens), " ".join(fit.layout.flags)


def _data(fit: Fit) -> dict[str, Any]:
    stages = [
        {"layers": stage.layers, "weight_bytes": stage.weights, "cache_bytes": stage.cache,
         "beside_bytes": stage.beside, "total_bytes": stage.total}
        for stage in fit.stages
    ]  # fmt: skip
    return {
        "fits": fit.fits, "hosts": fit.layout.hosts, "gpus": fit.layout.gpus, "settings": fit.layout.settings,
        "stages": stages, "tokens": fit.tokens, "tokens_per_rank": max(fit.tokens_per_rank, 0),
        "options": fit.layout.flags,
    }  # fmt: skip


def _model(text: str) -> tuple[str, Sizes]:
    """Return the title and sizes of the model that *text* names."""
    path = Path(text)
    if text in model_names() and not path.exists():
        return model_title(text), computed_sizes(model_config(text))
    if path.is_file():
        with _errors_of(path):
            return str(path), computed_sizes(read_config(path))
    if (path / NAME).is_file():
        model = read(path)
        return model.name, parse_sizes(model.lineage.get("sizes"))
    if (path / CONFIG).is_file():
        config, files = read_config(path / CONFIG), sorted(path.glob("*.safetensors"))
        with _errors_of(path / CONFIG):
            return path.name, sizes(config, read_tensors(files)) if files else computed_sizes(config)
    expected = f"a directory with {CONFIG}, a {CONFIG}, or one of {', '.join(model_names())}"
    raise UserError(Diagnostic(text, "there is no such model", expected, "Correct the path or the name"))


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Name *path* as the place of errors in a config.json."""
    try:
        yield
    except UserError as error:
        place = re.compile(rf"^{re.escape(CONFIG)}(?=,|$)")
        named = [replace(each, where=place.sub(lambda _: str(path), each.where)) for each in error.diagnostics]
        raise UserError(*named) from None


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration in the file *path*.

    Raises:
        UserError: The file cannot be read, or has no JSON object.
    """
    try:
        config = parse_json(read_file(path), lenient=True)
    except (OSError, ValueError) as error:
        problem = f"the file cannot be read: {error.strerror if isinstance(error, OSError) else error}"
        raise UserError(Diagnostic(str(path), problem, "JSON", "Correct the path")) from None
    if not isinstance(config, dict):
        problem = f"the file has a {type(config).__name__}"
        raise UserError(Diagnostic(str(path), problem, "a JSON object", "Correct the path"))
    return config


def _gpus(args: Namespace) -> Gpus:
    label = gpu_memory_bytes(args.gpu)
    if label is None:
        problem, names = (
            f"the catalogue has no memory of {args.gpu!r}",
            [name for name in gpu_names() if gpu_memory_bytes(name)],
        )
        raise UserError(Diagnostic("--gpu", problem, f"one of {', '.join(names)}", "Choose one of them"))
    for name in ("gpus", "hosts", "parallel", "context_tokens"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            problem, help = f"{getattr(args, name)} is too few", "Choose a larger number"
            raise UserError(Diagnostic(f"--{name.replace('_', '-')}", problem, "1 or more", help))
    return Gpus(reported_bytes(label), args.gpus, args.hosts)


def _load(args: Namespace, gpus: Gpus, model: Sizes) -> Load:
    context_tokens = args.context_tokens or min(CONTEXT_TOKENS, model.context_tokens)
    return Load(context_tokens, args.parallel, args.kv_cache_dtype, args.speculative, gpus.batch_tokens)


def _wish(args: Namespace) -> Wish:
    experts = None if args.expert_parallel is None else args.expert_parallel == "true"
    return Wish(args.tensor_parallel, args.pipeline_parallel, args.data_parallel, experts, args.decode_context_parallel)


if __name__ == "__main__":
    sys.exit(main())

"""Export the language model that a run trained, for other programs.

    python -m workloads.export out/run --to huggingface --out exported/run
    python -m workloads.export out/lora --to huggingface --merge-adapters --dtype bf16 --out exported/lora
    python -m workloads.export out/run --to gguf --dtype bf16 --out exported/gguf

RUN is the directory of a finished run, or one of its checkpoints. The export is loaded again, and must have the same
logits: by transformers, or by llama.cpp, which rounds otherwise. `lineage.json` beside it has the digests of its
files, of the checkpoint, of the base model and of the data. `python -m workloads.serving.vllm` or
`workloads.serving.gguf` publishes the result.
"""

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.export.register import register
from workloads.output_directory import OutputDirectory, add_arguments
from workloads.serving.exported import EXPORT, LINEAGE
from workloads.tracking import connect
from workloads.tracking.server import URL

if TYPE_CHECKING:
    from workloads.export.trained import TrainedModel

STATUS = (
    "Exit status: 0 exported, 1 the export is not the trained model, or less accurate, 2 wrong input or refused, "
    "3 server not reached."
)


def export(
    run: Path,
    directory: Path,
    merge_adapters: bool = False,
    dtype: str = "fp32",
    to: str = "huggingface",
    may_lose: float = 0.01,
    replace: bool = False,
) -> dict[str, Any]:
    """Export the model of *run* to *directory*, whole or not at all, and return its lineage.

    Args:
        merge_adapters: Whether adapters are added to the weights of their base; else they are exported alone.
        dtype: Number format of the weights: fp32, bf16 or fp16, and for gguf also q8_0.
        to: Format of the export: huggingface or gguf.
        may_lose: Largest loss of accuracy by q8_0, on each data set of which the run holds a part out.
        replace: Whether the export replaces another one in *directory*.

    Raises:
        UserError: The run has no such model, *directory* exists, or its drive is full.
        LessAccurate: q8_0 loses more.
        ExportDiffers: The export is not the trained model.
    """
    output = OutputDirectory(directory, EXPORT, replace)
    output.check()
    from workloads.checkpoint import disk
    from workloads.export import trained

    model = trained.load(run)
    _check_adapters(model.lora is not None, merge_adapters, run, to)
    _check_dtype(dtype, to)
    try:
        with output.write() as partial:
            made = _write(model, partial, merge_adapters, dtype, to, may_lose)
            written = sorted(partial.iterdir())
            files = {each.name: {"bytes": each.stat().st_size, "sha256": disk.sha256(each)} for each in written}
            lineage = {**model.lineage, **made, "files": files}
            (partial / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n")
            output.publish(partial)
    except Exception as error:  # each library that writes has an error of its own, with the system's text
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        free = shutil.disk_usage(directory.parent).free
        problem = f"its drive has no room for the export: {free / 1e6:.1f} MB are free"
        help = "Free some space, or choose another file system; nothing of the export was left"
        raise UserError(Diagnostic(str(directory), problem, help=help)) from error
    return lineage


def _check_adapters(has_adapters: bool, merge_adapters: bool, run: Path, to: str) -> None:
    if merge_adapters and not has_adapters:
        help = "Leave --merge-adapters out"
        raise UserError(Diagnostic("--merge-adapters", f"{run} trained the whole model", "a run with adapters", help))
    if to == "gguf" and has_adapters and not merge_adapters:
        problem, help = "a GGUF file has a whole model", "Add --merge-adapters"
        raise UserError(Diagnostic("--to gguf", problem, "adapters that are merged", help))


def _check_dtype(dtype: str, to: str) -> None:
    from workloads.export.rounding import QUANTIZED

    if to != "gguf" and dtype in QUANTIZED:
        problem, expected = f"{dtype} is a format of GGUF files", "fp32, bf16 or fp16 for Hugging Face"
        help = "Export in bf16, and quantise with `python -m workloads.quantize.language_model`"
        raise UserError(Diagnostic("--dtype", problem, expected, help))


def _write(
    model: "TrainedModel", directory: Path, merge_adapters: bool, dtype: str, to: str, may_lose: float
) -> dict[str, Any]:
    """Write the model to *directory*, and return the form and the proof for its lineage."""
    from workloads.export import gguf, hugging_face, rounding
    from workloads.training import lora

    if model.lora and not merge_adapters:
        return {"adapters": "separate", **hugging_face.write_adapters(model, directory)}
    lora.merge(model.model)
    rounded = rounding.round_weights(model, dtype, may_lose) if dtype in rounding.QUANTIZED else {}
    write = gguf.write_model if to == "gguf" else hugging_face.write_model
    form = {"adapters": "merged" if merge_adapters else None, "dtype": dtype}
    written = write(model, directory, dtype)
    if to == "huggingface":
        hugging_face.check_tokenizer(directory)
    return {**form, **rounded, **written}


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.export", __doc__, STATUS)
    parser.add_argument("run", metavar="RUN", type=Path, help="directory of a finished run, or of a checkpoint")
    parser.add_argument("--to", choices=("huggingface", "gguf"), required=True, help="format of the export")
    add_arguments(parser, "the export")
    parser.add_argument(
        "--merge-adapters", action="store_true", help="add LoRA adapters to the weights of their base model"
    )
    parser.add_argument(
        "--dtype",
        choices=("fp32", "bf16", "fp16", "q8_0"),
        default="fp32",
        help="number format of the weights; q8_0, 8 bits, is for gguf (default: fp32)",
    )
    may_lose = "largest loss of accuracy by q8_0 on the data that the run held out (default %(default)s)"
    parser.add_argument("--may-lose", type=float, default=0.01, metavar="SHARE", help=may_lose)
    parser.add_argument(
        "--tracking", metavar="URL", default=os.environ.get(URL, ""), help=f"MLflow server (default: {URL})"
    )
    parser.add_argument("--register", metavar="MODEL", help="register the export as a version of this model")
    args = parser.parse_args(argv)
    earlier = EXPORT.describe(args.out)
    server = connect(args.tracking, os.environ) if args.register else None
    lineage = export(args.run, args.out, args.merge_adapters, args.dtype, args.to, args.may_lose, args.replace)
    if server:
        print(f"{register(server, args.out, args.register)} is registered at {server.url}", flush=True)
    size = sum(file["bytes"] for file in lineage["files"].values()) / 1e6
    print(
        f"exported {args.out}: {lineage['run']}, step {lineage['step']}, {size:.1f} MB; {lineage['proof']}", flush=True
    )
    if earlier:
        print(f"it replaces {earlier}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Reading and writing of checkpoints, one file and one tensor at a time.

Memory: a file of the source and its result, and beside them six times the largest matrix in fp32 at most.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from workloads.checkpoint import disk
from workloads.errors import Diagnostic, UserError
from workloads.export.hugging_face import BESIDE_WEIGHTS
from workloads.files import refuse_links
from workloads.quantize.language_model.formats import WeightFormat
from workloads.quantize.language_model.matrices import MatrixChoice, TensorHead
from workloads.serving.vllm import CONFIG, INDEX, read_object, weight_files

CARD = "README.md"


@dataclass(frozen=True, slots=True)
class SourceCheckpoint:
    """A language model in the directory of a Hugging Face model."""

    directory: Path
    config: Mapping[str, Any]
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorHead]

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def digests(self) -> dict[str, str]:
        """Return the sha256 of configuration and weights, which reads all of them."""
        return {file.name: disk.sha256(file) for file in (self.directory / CONFIG, *self.files)}


def read_source(directory: Path) -> SourceCheckpoint:
    """Return the checkpoint in *directory*, with the heads of its tensors.

    Raises:
        UserError: A file is missing, unreadable, or a link to another directory, or its weights are quantised already.
    """
    config = read_object(directory / CONFIG)
    if "quantization_config" in config:
        method = (config["quantization_config"] or {}).get("quant_method", "an unknown method")
        problem, help = f"the model is quantised already, by {method}", "Name the model that it was made from"
        raise UserError(Diagnostic(str(directory), problem, "weights in fp32, bf16 or fp16", help))
    files = weight_files(directory)
    beside = (directory / name for name in (*BESIDE_WEIGHTS, CARD))
    refuse_links(directory, [*files, *(each for each in beside if each.is_file())])
    tensors: dict[str, TensorHead] = {}
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - not a mapping
                    head = opened.get_slice(name)
                    tensors[name] = TensorHead(tuple(head.get_shape()), head.get_dtype())
        except SafetensorError as error:
            problem, help = f"the file cannot be read: {error}", "Download or export the file again"
            raise UserError(Diagnostic(str(file), problem, "a whole safetensors file", help)) from None
    return SourceCheckpoint(directory, config, tuple(files), tensors)


@dataclass
class RoundingError:
    """Sums of squares of a model's quantised weights and of their errors."""

    squares: float = 0.0
    squared_errors: float = 0.0

    @property
    def relative(self) -> float:
        """The error relative to the weights, both as root mean squares."""
        return (self.squared_errors / self.squares) ** 0.5 if self.squares else 0.0

    def add(self, weight: torch.Tensor, rounded: torch.Tensor) -> None:
        values = weight.float()
        self.squares += float(values.square().sum(dtype=torch.float64))
        self.squared_errors += float((values - rounded).square().sum(dtype=torch.float64))


def write_quantized(
    source: SourceCheckpoint,
    choice: MatrixChoice,
    form: WeightFormat,
    directory: Path,
    progress: Callable[[str], None],
) -> RoundingError:
    """Write *source* with the matrices of *choice* in *form* to *directory*, and return the error of its weights.

    Raises:
        UserError: A weight is not finite.
    """
    error, places, total = RoundingError(), dict[str, str](), 0
    for number, file in enumerate(source.files, 1):
        written: dict[str, torch.Tensor] = {}
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                tensor = opened.get_tensor(name)
                if name in choice.quantized:
                    written |= _quantize(name, tensor, form, error)
                else:
                    written[name] = tensor
        target = directory / file.name
        save_file(written, target, metadata={"format": "pt"})
        with target.open("rb") as file_on_drive:
            os.fsync(file_on_drive)
        places |= dict.fromkeys(written, file.name)
        total += sum(each.nbytes for each in written.values())
        before, after = file.stat().st_size / 1e6, target.stat().st_size / 1e6
        progress(f"{number}/{len(source.files)} {file.name}: {before:.1f} MB before, {after:.1f} MB in {form.name}")
    if len(source.files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for name in (*BESIDE_WEIGHTS, CARD):
        if (source.directory / name).is_file():
            shutil.copyfile(source.directory / name, directory / name)
    config = {**source.config, "quantization_config": form.entry(choice.kept)}
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return error


def _quantize(name: str, weight: torch.Tensor, form: WeightFormat, error: RoundingError) -> dict[str, torch.Tensor]:
    if not torch.isfinite(weight).all():
        problem, help = f"{name} has values that are not finite", "Export the last good checkpoint"
        raise UserError(Diagnostic("weights", problem, "finite weights", help))
    tensors, rounded = form.quantize(weight)
    error.add(weight, rounded)
    module = name.rpartition(".")[0]
    return {f"{module}.{key}": tensor.contiguous() for key, tensor in tensors.items()}

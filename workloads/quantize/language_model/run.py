"""Quantise a language model in all steps: choose, measure, convert, measure again, and publish if the gate passes."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.errors import Diagnostic, UserError
from workloads.evaluation import gate
from workloads.files import write_atomic
from workloads.foreign import parse_object, read_file
from workloads.output_directory import OutputDirectory
from workloads.quantize.language_model.checkpoint import SourceCheckpoint, read_source, write_quantized
from workloads.quantize.language_model.formats import FORMATS, WeightFormat
from workloads.quantize.language_model.matrices import (
    MatrixChoice,
    choose_matrices,
    count_parameters,
    fused_experts,
    saved_bytes,
)
from workloads.quantize.language_model.measure import ModelMeter
from workloads.serving.exported import LINEAGE, QUANTIZATION
from workloads.tracking.provenance import code_digest

SHOWN = 3
"""Names in a line of progress."""


@dataclass(frozen=True)
class QuantizationResult:
    """The figures of a quantised language model."""

    path: Path
    """File of the report."""
    format: WeightFormat
    weight_bytes_before: int
    weight_bytes: int
    quantized_share: float
    """Share of the parameters that are quantised."""
    unfit: tuple[str, ...]
    """Modules that stay because their matrix, or one that vLLM joins with it, does not fit the format."""
    error: float
    """Error of the quantised weights relative to them, both as root mean squares."""
    may_lose: float
    unmeasured: str | None
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    shortfalls: tuple[str, ...]

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """The report of the evaluation, for `gate.lines`."""
        return {**self.after, "shortfalls": self.shortfalls}

    def summary(self) -> str:
        before, after = self.weight_bytes_before, self.weight_bytes
        return (
            f"{self.format.title}; {before / 1e6:.1f} MB became {after / 1e6:.1f} MB, {before / after:.2f} times "
            f"smaller; {self.quantized_share:.1%} of the parameters, with an error of {self.error:.2%}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format.name,
            "weight_bytes_before": self.weight_bytes_before,
            "weight_bytes": self.weight_bytes,
            "quantized_share": self.quantized_share,
            "relative_error": self.error,
            "unfit": list(self.unfit),
            "gate": {
                "passed": not self.shortfalls and self.unmeasured is None,
                "unmeasured": self.unmeasured,
                "may_lose": self.may_lose,
                "before": self.before["results"],
                "after": self.after["results"],
                "shortfalls": list(self.shortfalls),
            },
        }


def quantize(
    model: Path,
    to: str,
    output: OutputDirectory,
    meter: ModelMeter | None,
    may_lose: float,
    unmeasured: str | None,
    progress: Callable[[str], None],
) -> QuantizationResult:
    """Write *model* in the format *to* to *output*, whole or not at all, and its report in any case.

    Args:
        meter: Measures the model before and after; None for no gate.
        may_lose: Largest loss of accuracy, and largest share by which bits per byte may rise.
        unmeasured: Reason for no gate.

    Raises:
        UserError: The model cannot be quantised, *output* exists, or its drive is full.
    """
    output.check()
    form, source = FORMATS[to], read_source(model)
    choice = _choose(source, form)
    _check_room(source, choice, form, output.path)
    before = meter.measure(model) if meter else []
    with output.write() as partial:
        _tell_unfit(choice, form, progress)
        error = write_quantized(source, choice, form, partial, progress)
        after = meter.measure(partial) if meter else []
        earlier, later = {"results": before}, {"results": after}
        result = QuantizationResult(
            path=output.report,
            format=form,
            weight_bytes_before=source.bytes,
            weight_bytes=sum((partial / file.name).stat().st_size for file in source.files),
            quantized_share=count_parameters(source.tensors, choice.quantized)
            / count_parameters(source.tensors, source.tensors),
            unfit=choice.unfit,
            error=error.relative,
            may_lose=may_lose,
            unmeasured=unmeasured,
            before=earlier,
            after=later,
            shortfalls=tuple(gate.shortfalls(later, earlier, may_lose, None)),
        )
        write_atomic(result.path, json.dumps(result.to_json(), indent=2) + "\n")
        if not result.shortfalls:
            _write_lineage(source, result, partial)
            output.publish(partial)
        return result


def _choose(source: SourceCheckpoint, form: WeightFormat) -> MatrixChoice:
    """Return the matrices of *source* to quantise.

    Raises:
        UserError: There are none, or experts share a tensor.
    """
    if fused := fused_experts(source.tensors):
        problem, expected = f"{fused[0]} has the matrices of several experts", "one tensor for each matrix"
        help = "Save the model with a version of transformers that writes experts one by one"
        raise UserError(Diagnostic(str(source.directory), problem, expected, help))
    choice = choose_matrices(source.tensors, form.multiples)
    if not choice.quantized:
        rows, columns = form.multiples.rows, form.multiples.columns
        problem = f"no matrix of a decoder layer fits {form.name}"
        expected = f"matrices with a multiple of {rows} rows and of {columns} columns"
        raise UserError(Diagnostic(str(source.directory), problem, expected, "Choose another format"))
    return choice


def _check_room(source: SourceCheckpoint, choice: MatrixChoice, form: WeightFormat, out: Path) -> None:
    """Raise if the file system of *out* has not enough free bytes for the result; scales take 3 % of it at most."""
    existing = next(parent for parent in out.absolute().parents if parent.is_dir())
    needed = source.bytes - saved_bytes(source.tensors, choice, form.arguments.num_bits)
    needed, free = needed + needed // 30, shutil.disk_usage(existing).free
    if free < needed:
        problem, expected = f"{free / 1e9:.1f} GB are free in {existing}", f"{needed / 1e9:.1f} GB for the result"
        raise UserError(Diagnostic("--out", problem, expected, "Free some space, or choose another file system"))


def _tell_unfit(choice: MatrixChoice, form: WeightFormat, progress: Callable[[str], None]) -> None:
    if choice.unfit:
        names = ", ".join(choice.unfit[:SHOWN]) + (", …" if len(choice.unfit) > SHOWN else "")
        multiples = f"{form.multiples.rows} rows and {form.multiples.columns} columns"
        progress(f"{len(choice.unfit)} matrices stay: not all have a multiple of {multiples}: {names}")


def _write_lineage(source: SourceCheckpoint, result: QuantizationResult, directory: Path) -> None:
    """Write the lineage of the source with the quantisation and the digests of the new files."""
    try:
        record: dict[str, Any] = parse_object(read_file(source.directory / LINEAGE))
    except (OSError, ValueError):
        record = {}
    made = {
        **{key: value for key, value in result.to_json().items() if key != "unfit"},
        "source": {"directory": source.directory.resolve().name, "files": source.digests()},
        "code": code_digest(),
    }
    written = sorted(directory.iterdir())
    files = {each.name: {"bytes": each.stat().st_size, "sha256": disk.sha256(each)} for each in written}
    lineage = {**record, "dtype": result.format.name, QUANTIZATION: made, "files": files}
    (directory / LINEAGE).write_text(json.dumps(lineage, indent=2) + "\n")

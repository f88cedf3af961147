"""The origin of an exported language model, from the lineage that lies beside it.

`python -m workloads.export` and `python -m workloads.quantize.language_model` write it.
"""

from pathlib import Path
from typing import Any

from workloads.foreign import excerpt, parse_object, read_file
from workloads.output_directory import OutputKind

LINEAGE = "lineage.json"
QUANTIZATION = "quantization"
KEPT = ("run", "step", "checkpoint", "config", "base", "parent", "data", "forced", "adapters", "dtype")
"""Entries of an export's lineage that identify its training and its form."""


def exported_lineage(directory: Path) -> dict[str, Any]:
    """Return the entries ``training`` and ``quantization`` for the lineage of the model in *directory*, if it has them.

    The ``checkpoint`` of a training is the digest of the checkpoint's manifest, and its ``config`` that of the
    training, as in models of `python -m workloads.quantize`.
    """
    record = _read(directory)
    lineage = {QUANTIZATION: record[QUANTIZATION]} if QUANTIZATION in record else {}
    if {"checkpoint", "config"} <= record.keys():
        lineage["training"] = {name: record[name] for name in KEPT if name in record}
    return lineage


def describe(directory: Path) -> str:
    """Return the export or the quantised model in *directory* in words; empty if it has none.

    The lineage of a run, with its checkpoints, has no files.
    """
    record = _read(directory)
    if not isinstance(record.get("files"), dict):
        return ""
    noun = "a quantised model" if QUANTIZATION in record else "an export"
    run = f" of {excerpt(record['run'])}, step {excerpt(record.get('step'))}" if "run" in record else ""
    return noun + run + (f", in {excerpt(record['dtype'])}" if record.get("dtype") else "")


EXPORT = OutputKind("an export or a quantised model", describe)
"""Output of `python -m workloads.export` and `python -m workloads.quantize.language_model`."""


def _read(directory: Path) -> dict[str, Any]:
    """Return the lineage beside the model in *directory*; empty if it has none."""
    try:
        return parse_object(read_file(directory / LINEAGE))
    except (OSError, ValueError):
        return {}

"""The origin of an exported language model, from the lineage that lies beside it.

`python -m workloads.export` and `python -m workloads.quantize.language_model` write it.
"""

from pathlib import Path
from typing import Any

from workloads.foreign import parse_json, read_file

LINEAGE = "lineage.json"
QUANTIZATION = "quantization"
KEPT = ("run", "step", "checkpoint", "config", "base", "parent", "data", "forced", "adapters", "dtype")
"""Entries of an export's lineage that identify its training and its form."""


def exported_lineage(directory: Path) -> dict[str, Any]:
    """Return the entries ``training`` and ``quantization`` for the lineage of the model in *directory*, if it has them.

    The ``checkpoint`` of a training is the digest of the checkpoint's manifest, and its ``config`` that of the
    training, as in models of `python -m workloads.quantize`.
    """
    try:
        record = parse_json(read_file(directory / LINEAGE))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict):
        return {}
    lineage = {QUANTIZATION: record[QUANTIZATION]} if QUANTIZATION in record else {}
    if {"checkpoint", "config"} <= record.keys():
        lineage["training"] = {name: record[name] for name in KEPT if name in record}
    return lineage

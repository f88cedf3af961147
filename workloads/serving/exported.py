"""The training of an exported language model, from the lineage that `python -m workloads.export` wrote beside it."""

import json
from pathlib import Path
from typing import Any

LINEAGE = "lineage.json"
KEPT = ("run", "step", "checkpoint", "config", "base", "parent", "data", "forced", "adapters", "dtype")
"""Entries of an export's lineage that identify its training and its form."""


def training_lineage(directory: Path) -> dict[str, Any]:
    """Return the entry ``training`` for the lineage of the model that was exported to *directory*; empty for another.

    Its ``checkpoint`` is the digest of the checkpoint's manifest, and its ``config`` that of the training, as in models
    of `python -m workloads.quantize`.
    """
    try:
        record = json.loads((directory / LINEAGE).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or not {"checkpoint", "config"} <= record.keys():
        return {}
    return {"training": {name: record[name] for name in KEPT if name in record}}

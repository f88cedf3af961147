"""Where a run's weights come from: ``lineage.json`` in its directory, by content and not by name.

It has the run's parent and data from its start on. When the run has ended, it says which checkpoint came of it, how
that compares with its parent, and whether it is published: a registry takes no other.
"""

import json
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.training import data
from workloads.training.config import HuggingFace, TrainingConfig
from workloads.training.fine_tuning import Tuning
from workloads.training.parent_model import Parent

NAME = "lineage.json"


def begin(out: Path, config: TrainingConfig, examples: data.Examples, parent: Parent | None) -> None:
    """Write what is known before the first step. What an earlier start has written of the end goes: it is not over.

    Args:
        examples: Those of the run's own data.
    """
    sets = [(config.data, examples), *((each, data.load(each)) for each in (parent.data if parent else ()))]
    told: dict[str, Any] = {
        "name": config.name,
        "parent": {"path": str(parent.path), "step": parent.step, "sha256": parent.digest} if parent else None,
        "base": _base(config.model.path) if isinstance(config.model, HuggingFace) else None,
        "data": [each.model_dump(mode="json") | _content(loaded) for each, loaded in sets],
        "published": False,
    }
    _write(out, told)


def end(out: Path, step: int, checkpoint: str, tuning: Tuning | None, published: bool, forced: str | None) -> None:
    """Add what has come of it.

    Args:
        checkpoint: The sha256 of its manifest.
        forced: Why it is published though it is worse than its parent.
    """
    told = json.loads((out / NAME).read_text())
    told |= {"step": step, "checkpoint": checkpoint, "published": published, "forced": forced}
    if tuning:
        told["scores"] = [
            {"data": held.name, **own._asdict(), "parent": parent._asdict()}
            for held, own, parent in zip(tuning.held, tuning.scores, tuning.parent, strict=True)
        ]
        told["best_step"] = tuning.best_step
    _write(out, told)


def _write(out: Path, told: dict[str, Any]) -> None:
    beside = out / f".{NAME}.new"
    beside.write_text(json.dumps(told, indent=2) + "\n")
    beside.replace(out / NAME)


def _content(examples: data.Examples) -> dict[str, Any]:
    return {"examples": len(examples), "sha256": examples.digest()}


def _base(path: str) -> dict[str, Any]:
    """Return what the model in the directory *path* is, by the digests of its files."""
    files = sorted(file for file in Path(path).iterdir() if file.suffix in (".json", ".safetensors"))
    return {"path": path, "files": {file.name: disk.sha256(file) for file in files}}

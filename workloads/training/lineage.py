"""The origin of a run's weights: ``lineage.json`` in its directory, which identifies each input by its content.

The file names the parent and the data from the start. When the run has ended, it also names the final checkpoint, its
scores against the parent, and whether the model is published: a registry accepts only published models.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk
from workloads.foreign import parse_object, read_file
from workloads.training import data
from workloads.training.config import HuggingFace, Tokenized
from workloads.training.earlier_data import EarlierData
from workloads.training.fine_tuning import FineTuningState, NotPublished
from workloads.training.prepare import PreparedRun
from workloads.training.tokenizer import TOKENIZER_FILES

NAME = "lineage.json"
UNTIL = "until_step"
"""Key of the last step that learned from data which is no longer that of the run."""


def write_start(out: Path, prepared: PreparedRun, earlier: Sequence[EarlierData], declared: bool) -> None:
    """Write the parent and the data before the first step; remove the result that an earlier start wrote.

    The digest of private rows is left out: it tells whether a guess of all rows is right.

    Args:
        earlier: Other data, which earlier starts of the run have learned from.
        declared: Whether a fleet declares the run.
    """
    config, parent, isolation = prepared.config, prepared.parent, prepared.isolation
    inputs = prepared.inputs
    own = {"sha256": None} if config.privacy else _describe_data(inputs.examples, inputs.sha256)
    sets = [config.data.model_dump(mode="json") | own]
    for each in parent.data if parent else ():
        examples = data.load(each)
        sets.append(each.model_dump(mode="json") | _describe_data(examples, examples.digest()))
    tokenizer = config.data.tokenizer if isinstance(config.data, Tokenized) else None
    record: dict[str, Any] = {
        "name": config.name,
        "declared": declared,
        "parent": {"path": str(parent.path), "step": parent.step, "sha256": parent.digest} if parent else None,
        "base": {"path": config.model.path, "files": base_files(config.model.path)}
        if isinstance(config.model, HuggingFace)
        else None,
        "tokenizer": {"path": tokenizer, "files": tokenizer_files(tokenizer)} if tokenizer else None,
        "data": [
            *sets,
            *({**each.config, "sha256": each.sha256, UNTIL: each.until_step} for each in earlier),
        ],
        **({"privacy": config.privacy.model_dump(mode="json")} if config.privacy else {}),
        "isolation": isolation.as_data() if isolation else None,
        "published": False,
    }
    _write(out, record)


def write_end(
    out: Path,
    step: int,
    checkpoint: str,
    tuning: FineTuningState | None,
    refusal: NotPublished | None,
    publish_worse: str | None,
    attack: Mapping[str, int] | None = None,
) -> None:
    """Add the result of the run.

    Args:
        checkpoint: The sha256 of the final checkpoint's manifest.
        refusal: The reason against a publication; None if there is none.
        publish_worse: The reason to publish the model all the same.
        attack: Guesses about the planted records of a private run.
    """
    record = parse_object(read_file(out / NAME))
    record |= {
        "step": step,
        "checkpoint": checkpoint,
        "published": refusal is None or publish_worse is not None,
        "refused": refusal.reason if refusal else None,
        "forced": publish_worse if refusal else None,
    }
    if attack:
        record["attack"] = attack
    if tuning:
        record["scores"] = [
            {"data": held_out.name, "answers": held_out.answers, **own._asdict(), "parent": parent._asdict()}
            for held_out, own, parent in zip(tuning.held_out_sets, tuning.scores, tuning.parent_scores, strict=True)
        ]
        record["best_step"] = tuning.best_step
    _write(out, record)


def _write(out: Path, record: dict[str, Any]) -> None:
    new_file = out / f".{NAME}.new"
    new_file.write_text(json.dumps(record, indent=2) + "\n")
    new_file.replace(out / NAME)


def _describe_data(examples: data.Examples, sha256: str | None) -> dict[str, Any]:
    return {"examples": len(examples), "sha256": sha256, "left_out": dict(examples.left_out)}


def base_files(path: str) -> dict[str, str]:
    """Return the digests of the files of the base model in *path*, by name."""
    weights = [file.name for file in Path(path).iterdir() if file.suffix in (".json", ".safetensors")]
    return _digests(path, {*weights, *TOKENIZER_FILES})


def tokenizer_files(path: str) -> dict[str, str]:
    """Return the digests of the files of the tokenizer in *path*, by name."""
    return _digests(path, TOKENIZER_FILES)


def _digests(path: str, names: Iterable[str]) -> dict[str, str]:
    return {name: disk.sha256(Path(path, name)) for name in sorted(names) if Path(path, name).is_file()}

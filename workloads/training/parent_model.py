"""The parent of a fine-tuning: the checkpoint that supplies its initial weights."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from torch import Tensor

from workloads.checkpoint import Checkpoint, manifest, newest
from workloads.errors import Diagnostic, UserError
from workloads.foreign import read_whole
from workloads.training import sharded
from workloads.training.config import Data, FineTuning

REGISTERED = "models:/"
"""Prefix of a registered version: ``models:/digits@champion``."""
_SETS: TypeAdapter[tuple[Data, ...]] = TypeAdapter(tuple[Data, ...])


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent checkpoint in memory."""

    path: Path
    step: int
    digest: str
    """The sha256 of its manifest, which lists the digests of its files."""
    model: Mapping[str, Tensor]
    data: tuple[Data, ...]
    """Data that the parent and its own parents were trained on."""
    has_adapters: bool
    """Whether it trained adapters, and not the whole model."""


def load_parent(config: FineTuning) -> Parent:
    """Return the parent that *config* names, loaded into memory.

    Raises:
        UserError: The parent is missing or damaged.
    """
    checkpoint = _find_checkpoint(config.parent)
    state = sharded.load_whole(checkpoint)
    data = config.old or parse_data(state.get("data", [state["config"]["data"]]))
    has_adapters = state["config"]["model"].get("lora") is not None
    digest = checkpoint_digest(checkpoint)
    return Parent(checkpoint.path, checkpoint.step, digest, state["model"], data, has_adapters)


def parse_data(entries: Sequence[Mapping[str, Any]]) -> tuple[Data, ...]:
    """Return the data sets that the *entries* of a checkpoint describe."""
    return _SETS.validate_json(json.dumps(entries))


def checkpoint_digest(checkpoint: Checkpoint) -> str:
    """Return the sha256 of a checkpoint's manifest, which identifies the checkpoint by its content."""
    return sha256(read_whole(checkpoint.path / manifest.NAME)).hexdigest()


def _find_checkpoint(parent: str) -> Checkpoint:
    where, help = "fine_tuning.parent", "Name the directory of a run or of one of its checkpoints"
    path = _fetch_registered(parent) if parent.startswith(REGISTERED) else Path(parent)
    if (path / manifest.NAME).exists():
        return Checkpoint(path, manifest.read(path))
    checkpoint = newest(path / "checkpoints") if (path / "checkpoints").is_dir() else None
    if checkpoint is None:
        problem = f"{path} has no checkpoint" if path.exists() else f"{path} does not exist"
        raise UserError(Diagnostic(where, problem, "a checkpoint on every host", help))
    return checkpoint


def _fetch_registered(version: str) -> Path:
    """Return the verified checkpoint of a registered version, fetched from the environment's tracking server."""
    from workloads.tracking import connect, fetch
    from workloads.tracking.registry import cache_directory
    from workloads.tracking.server import URL

    url = os.environ.get(URL, "")
    if not url:
        problem, note = f"{version} cannot be fetched: {URL} is not set", "a tracking server has the version"
        raise UserError(Diagnostic("fine_tuning.parent", problem, help=f"Set {URL} to its URL", note=note))
    return fetch(connect(url, os.environ), version, cache_directory())

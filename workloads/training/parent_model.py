"""The run that another one goes on from: found, read, and compared with what is to become of it."""

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
from workloads.errors import WorkloadError
from workloads.training import sharded
from workloads.training.config import Data, FineTuning

REGISTERED = "models:/"
"""Begins the name of a registered version: ``models:/digits@champion``."""
_SETS: TypeAdapter[tuple[Data, ...]] = TypeAdapter(tuple[Data, ...])


@dataclass(frozen=True, slots=True)
class Parent:
    """A parent as it was found."""

    path: Path
    step: int
    digest: str
    """The sha256 of its manifest, which has those of its files."""
    model: Mapping[str, Tensor]
    data: tuple[Data, ...]
    """What it and its own parents have learned from."""


def read(config: FineTuning) -> Parent:
    """Return the parent that *config* names, whole in memory.

    Raises:
        WorkloadError: there is none, or it is damaged.
    """
    found = _found(config.parent)
    state = sharded.whole(found)
    told = state.get("data", [state["config"]["data"]])
    data = config.old or sets(told)
    return Parent(found.path, found.step, digest_of(found), state["model"], data)


def sets(told: Sequence[Mapping[str, Any]]) -> tuple[Data, ...]:
    """Return the sets of data that a checkpoint tells of."""
    return _SETS.validate_json(json.dumps(told))


def digest_of(checkpoint: Checkpoint) -> str:
    """Return what names a checkpoint by its content: the sha256 of its manifest."""
    return sha256((checkpoint.path / manifest.NAME).read_bytes()).hexdigest()


def _found(parent: str) -> Checkpoint:
    where, fix = "fine_tuning.parent", "Name the directory of a run, or of a checkpoint in it"
    path = _registered(parent) if parent.startswith(REGISTERED) else Path(parent)
    if (path / manifest.NAME).exists():
        return Checkpoint(path, manifest.read(path))
    found = newest(path / "checkpoints") if (path / "checkpoints").is_dir() else None
    if found is None:
        raise WorkloadError(where, f"got {path}, without a checkpoint", "a parent has one, on every host", fix)
    return found


def _registered(version: str) -> Path:
    """Return the checkpoint of a registered version, fetched from the tracking server of the environment and proved."""
    from workloads.tracking import connect, fetch
    from workloads.tracking.registry import kept
    from workloads.tracking.server import URL

    url = os.environ.get(URL, "")
    if not url:
        raise WorkloadError("fine_tuning.parent", f"got {version}", "a server is asked for it", f"Set {URL}")
    return fetch(connect(url, os.environ), version, kept())

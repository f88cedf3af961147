"""The request of an iteration, its stages, and the key by which equal requests share one iteration."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackwright.errors import DeclarationError, Diagnostic

if TYPE_CHECKING:
    from rackwright.stack import Stack


class Stage(StrEnum):
    """The stages of an iteration, in their order."""

    FIND = "find"
    TUNE = "tune"
    GATE = "gate"
    QUANTIZE = "quantize"
    PROMOTE = "promote"
    UP = "up"


DESCRIPTIONS = {
    Stage.FIND: "find the served model and its training",
    Stage.TUNE: "fine-tune that training with the new rows",
    Stage.GATE: "compare with the served model, on rows that neither model has learned",
    Stage.QUANTIZE: "quantise for the target processor, and compare again",
    Stage.PROMOTE: "write the new model into the fleet's file",
    Stage.UP: "roll out to one host after the other",
}
TUNE, QUANTIZE = f"{Stage.TUNE}.", f"{Stage.QUANTIZE}."
"""Prefixes of the settings that a request can change."""


@dataclass(frozen=True)
class IterationRequest:
    """The arguments of one call of `rackwright server iterate`."""

    stack: "Stack"
    server: str
    data: Path
    """New rows: a file of NumPy's (.npz)."""
    changes: tuple[str, ...] = ()
    """Changed settings of the training and of quantising: ``tune.steps=100``."""
    may_lose: float = 0.01
    """Largest loss of accuracy, against the served model, on each data set that it was trained on."""
    target: str | None = None
    """Target processor; None: that of the served model."""
    training_directory: Path | None = None
    """Directory of the training, if it is in none of the usual places."""
    tracking: str = ""
    """URL of an MLflow server that may have the training; empty for none."""
    processes: int = 1
    until: Stage = Stage.UP

    def changes_of(self, prefix: str) -> list[str]:
        """Return the changes that begin with *prefix*, without it."""
        return [change.removeprefix(prefix) for change in self.changes if change.startswith(prefix)]

    def refuse_unknown(self) -> None:
        """Raise if a change belongs to no stage.

        Raises:
            DeclarationError: Names the first such change.
        """
        for change in self.changes:
            if not change.startswith((TUNE, QUANTIZE)):
                problem = f"{change!r} is not a setting of a training or of quantising"
                expected = f"{TUNE}KEY=VALUE or {QUANTIZE}KEY=VALUE"
                raise DeclarationError(Diagnostic("--set", problem, expected, f"Write it like {TUNE}steps=100"))

    def key(self) -> dict[str, Any]:
        """Return the part of the request that decides the new weights. Gates and target do not.

        Raises:
            DeclarationError: The data are no rows.
        """
        return {"data": digest_arrays(self.data), "set": self.changes_of(TUNE)}


def iteration_id(key: Mapping[str, Any]) -> str:
    """Return the id of the iteration with that *key*, the name of its directory."""
    return sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def digest_arrays(path: Path) -> str:
    """Return the digest of the arrays in the file *path*. The dates in the file do not count.

    Raises:
        DeclarationError: The file has no arrays.
    """
    from zipfile import BadZipFile, ZipFile

    digest = sha256()
    try:
        with ZipFile(path) as file:
            names = sorted(file.namelist())
            for name in names:
                content = file.open(name)
                digest.update(f"{name} {file.getinfo(name).file_size}\n".encode())
                while part := content.read(1 << 20):
                    digest.update(part)
    except (OSError, BadZipFile, RuntimeError, zlib.error) as error:  # with a password, or damaged
        reason = error.strerror if isinstance(error, OSError) else str(error)
        problem, expected = f"{path} cannot be read: {reason}", "a file that numpy.savez wrote"
        help = "Write the new rows with numpy.savez: `rackwright explain data-unreadable` has the format"
        raise DeclarationError(Diagnostic("--data", problem, expected, help, id="data-unreadable")) from None
    return digest.hexdigest()

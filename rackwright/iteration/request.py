"""What an iteration is asked for, and what it is called: the same question is the same iteration."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from rackwright.errors import DeclarationError

if TYPE_CHECKING:
    from rackwright.stack import Stack


class Stage(StrEnum):
    """In their order."""

    FIND = "find"
    TUNE = "tune"
    GATE = "gate"
    QUANTIZE = "quantize"
    PROMOTE = "promote"
    UP = "up"


ABOUT = {
    Stage.FIND: "what is served, and the training that it came from",
    Stage.TUNE: "go on from there with the new rows",
    Stage.GATE: "beside what is served, on rows that neither has learned",
    Stage.QUANTIZE: "for the processor it will run on, and beside what is served again",
    Stage.PROMOTE: "write it into the fleet's file",
    Stage.UP: "one host after the other",
}
TUNE, QUANTIZE = f"{Stage.TUNE}.", f"{Stage.QUANTIZE}."
"""Begin the settings that are changed."""


@dataclass(frozen=True)
class IterationRequest:
    """One call."""

    stack: "Stack"
    server: str
    data: Path
    """New rows: a file of NumPy's (.npz)."""
    changes: tuple[str, ...] = ()
    """Settings of the training and of quantising: ``tune.steps=100``."""
    may_lose: float = 0.01
    """How much less accurate than what is served it may be on each set that is known already."""
    target: str | None = None
    """None: as what is served."""
    given: Path | None = None
    """Where the training is, if nobody would look there."""
    tracking: str = ""
    """An MLflow server that may have it; empty for none."""
    processes: int = 1
    until: Stage = Stage.UP

    def of(self, begin: str) -> list[str]:
        """Return the changes that begin with *begin*, without it."""
        return [change.removeprefix(begin) for change in self.changes if change.startswith(begin)]

    def refuse_unknown(self) -> None:
        """Raise where a change is of no stage.

        Raises:
            DeclarationError: names the first.
        """
        for change in self.changes:
            if not change.startswith((TUNE, QUANTIZE)):
                want = f"settings are those of a training ({TUNE}…) or of quantising ({QUANTIZE}…)"
                raise DeclarationError("--set", f"got {change}", want, f"Write it like {TUNE}steps=100")

    def key(self) -> dict[str, Any]:
        """Return what decides which weights come of it, beside what is served: its gates and its target do not.

        Raises:
            DeclarationError: the data are no rows.
        """
        return {"data": digest(self.data), "set": self.of(TUNE)}


def name_of(key: Mapping[str, Any]) -> str:
    """Return what an iteration with that *key* is called."""
    return sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]


def digest(path: Path) -> str:
    """Return the digest of the arrays in the file *path*: not of when it was written, which is in such a file too.

    Raises:
        DeclarationError: there are none.
    """
    told = sha256()
    try:
        with ZipFile(path) as file:
            names = sorted(file.namelist())
            for name in names:
                content = file.open(name)
                told.update(f"{name} {file.getinfo(name).file_size}\n".encode())
                while part := content.read(1 << 20):
                    told.update(part)
    except (OSError, BadZipFile, RuntimeError, zlib.error) as error:  # with a password, or damaged
        said = error.strerror if isinstance(error, OSError) else str(error)
        want, fix = "new rows are a file that numpy.savez writes", "See docs/serve.md for what is in it"
        raise DeclarationError("--data", f"got {path}: {said}", want, fix) from None
    return told.hexdigest()

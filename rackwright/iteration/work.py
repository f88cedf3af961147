"""The directory of an iteration, and what it notes there after each stage: a later start goes on behind the last.

.rackwright/iterations/SERVER/ID/
    state.json              what it began with, and each stage: its time, if it is done and for what, what came of it
    data.npz                the new rows, as they were
    run.json, training/     the fine-tuning, as `python -m workloads.training` writes it
    tuned.json, made.json   it and what was made of it, each beside what was served
    quantize.json, model/, model.report/
    report.json, report.md
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rackwright.iteration.candidates import HERE, ITERATIONS, StartingModel
from rackwright.iteration.request import IterationRequest, Stage, name_of
from workloads.checkpoint import disk

STATE = "state.json"


class Work:
    """An iteration on the drive."""

    def __init__(self, directory: Path, told: dict[str, Any]) -> None:
        self.directory, self._told = directory, told

    @staticmethod
    def goes_on(asked: IterationRequest, key: Mapping[str, Any], declared: str) -> "Work | None":
        """Return the iteration that answers what is *asked* and came to the *declared* version; None if there is none.

        Without it an iteration that is asked for again, once its model is declared, would be another one.
        """
        for path in sorted(_place(asked).glob(f"*/{STATE}")):
            work = Work(path.parent, json.loads(path.read_text()))
            if work._told["key"] == key and work.made_version == declared:
                return work
        return None

    @staticmethod
    def begin(asked: IterationRequest, key: Mapping[str, Any], found: StartingModel) -> "Work":
        """Return the iteration that begins with *found*, as far as it has come."""
        directory = _place(asked) / name_of({**key, "served": found.version, "checkpoint": found.digest})
        path = directory / STATE
        if path.exists():
            return Work(directory, json.loads(path.read_text()))
        directory.mkdir(parents=True, exist_ok=True)
        _copy(asked.data, directory / "data.npz")
        told = asdict(found) | {"directory": str(found.directory), "checkpoint": str(found.checkpoint)}
        work = Work(directory, {"key": key, "began": now(), "found": told, "stages": {}})
        work._write()
        return work

    def again(self) -> "Work":
        """Return it as it is on the drive now."""
        return Work(self.directory, json.loads((self.directory / STATE).read_text()))

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def began(self) -> str:
        return str(self._told["began"])

    @property
    def found(self) -> StartingModel:
        told = self._told["found"]
        return StartingModel(**told | {"directory": Path(told["directory"]), "checkpoint": Path(told["checkpoint"])})

    @property
    def made_version(self) -> str | None:
        """The version that came of it, where it has come so far."""
        made = self.stage(Stage.QUANTIZE)
        return made["came"]["version"] if made["done"] else None

    @property
    def data_digest(self) -> str:
        return str(self._told["key"]["data"])

    def stage(self, stage: Stage) -> Mapping[str, Any]:
        """Return what is noted of *stage*."""
        blank: dict[str, Any] = {"seconds": 0.0, "done": False, "for": {}, "came": {}, "ended": None}
        return {**blank, **self._told["stages"].get(stage, {})}

    def done(self, stage: Stage, for_: Mapping[str, Any]) -> bool:
        """Return whether *stage* has ended well, for what is asked *for_* now."""
        noted = self.stage(stage)
        return bool(noted["done"]) and noted["for"] == for_

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Add the time of the block to that of *stage*, however it ends; what was done behind it is done no more."""
        for each in list(Stage)[list(Stage).index(stage) :]:
            if each in self._told["stages"]:
                self._told["stages"][each] |= {"done": False}
        self._write()
        began = time.monotonic()
        try:
            yield
        finally:
            noted = self.stage(stage)
            self._told["stages"][stage] = {**noted, "seconds": noted["seconds"] + time.monotonic() - began}
            self._write()

    def took(self, stage: Stage, seconds: float) -> None:
        """Add *seconds* to *stage*, which is done."""
        noted = self.stage(stage)
        self._told["stages"][stage] = {**noted, "seconds": noted["seconds"] + seconds, "done": True, "ended": now()}
        self._write()

    def ended(self, stage: Stage, for_: Mapping[str, Any], came: Mapping[str, Any]) -> None:
        """Note that *stage* has ended well, and what *came* of it."""
        noted = {"done": True, "for": dict(for_), "came": dict(came), "ended": now()}
        self._told["stages"][stage] = {**self.stage(stage), **noted}
        self._write()

    def _write(self) -> None:
        write(self.directory / STATE, json.dumps(self._told, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    """Write *text* to *path*, all of it or nothing, and to the drive."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    disk.write(beside, text.encode())
    beside.replace(path)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _place(asked: IterationRequest) -> Path:
    return asked.stack.project.resolve() / HERE / ITERATIONS / asked.server


def _copy(source: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.new")
    beside.unlink(missing_ok=True)
    with source.open("rb") as content:
        disk.copy(content, beside)
    beside.replace(target)

"""The directory of an iteration, with its state after each stage, so that a later start continues after the last one.

.rackwright/iterations/SERVER/ID/
    state.json              its request and starting model; the time, parameters and result of each stage
    data.npz, .jsonl, …     a copy of the new data
    run.json, training/     the fine-tuning, as `python -m workloads.training` writes it
    tuned.json, made.json   the comparisons of a tuned and of a quantised classifier with the served one
    quantize.json, model.report/
    model/                  the published model
    processes.log           the output of all processes, of all starts
    report.json, report.md
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rackwright.files import copy_atomic, write_atomic
from rackwright.iteration.candidates import ITERATIONS, PROJECT_DIRECTORY, StartingModel
from rackwright.iteration.request import PUBLISHING, IterationRequest, Stage, iteration_id

STATE = "state.json"


class Work:
    """The state of an iteration, on the drive."""

    def __init__(self, directory: Path, state: dict[str, Any]) -> None:
        self.directory, self._state = directory, state

    @staticmethod
    def find_declared(request: IterationRequest, key: Mapping[str, Any], version: str) -> "Work | None":
        """Return the iteration of *request* that produced the declared *version*; None if there is none.

        Without it, the same request would start another iteration once its model is declared.
        """
        for path in sorted(_directory_of(request).glob(f"*/{STATE}")):
            work = Work(path.parent, json.loads(path.read_text()))
            if work._state["key"] == key and work.result_version == version:
                return work
        return None

    @staticmethod
    def open(request: IterationRequest, key: Mapping[str, Any], starting_model: StartingModel) -> "Work":
        """Return the iteration that starts from *starting_model*: a new one, or the state of an earlier start."""
        directory = _directory_of(request) / iteration_id(
            {**key, "served": starting_model.version, "checkpoint": starting_model.digest}
        )
        path = directory / STATE
        if path.exists():
            return Work(directory, json.loads(path.read_text()))
        directory.mkdir(parents=True, exist_ok=True)
        copy_atomic(request.data, directory / request.copied_data)
        paths = {"directory": str(starting_model.directory), "checkpoint": str(starting_model.checkpoint)}
        state = {"key": key, "began": now(), "found": asdict(starting_model) | paths, "stages": {}}
        work = Work(directory, state)
        work._write()
        return work

    def reload(self) -> "Work":
        """Return the iteration with its present state on the drive."""
        return Work(self.directory, json.loads((self.directory / STATE).read_text()))

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def began_at(self) -> str:
        return str(self._state["began"])

    @property
    def starting_model(self) -> StartingModel:
        fields = self._state["found"]
        paths = {"directory": Path(fields["directory"]), "checkpoint": Path(fields["checkpoint"])}
        return StartingModel(**fields | paths)

    @property
    def result_version(self) -> str | None:
        """The version of the new model; None before it is published."""
        return next((str(each["came"]["version"]) for each in map(self.stage, PUBLISHING) if each["done"]), None)

    @property
    def data_digest(self) -> str:
        return str(self._state["key"]["data"])

    def stage(self, stage: Stage) -> Mapping[str, Any]:
        """Return the state of *stage*: seconds, done, for (its parameters), came (its result), ended."""
        blank: dict[str, Any] = {"seconds": 0.0, "done": False, "for": {}, "came": {}, "ended": None}
        return {**blank, **self._state["stages"].get(stage, {})}

    def is_done(self, stage: Stage, parameters: Mapping[str, Any]) -> bool:
        """Return whether *stage* has succeeded with the same *parameters*."""
        state = self.stage(stage)
        return bool(state["done"]) and state["for"] == parameters

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the time of the block to that of *stage*, however the block ends. Mark it and later stages as undone."""
        for each in list(Stage)[list(Stage).index(stage) :]:
            if each in self._state["stages"]:
                self._state["stages"][each] |= {"done": False}
        self._write()
        start = time.monotonic()
        try:
            yield
        except BaseException:
            with suppress(OSError):  # on a full drive the reason of the failure counts, not the time of the stage
                self._add_time(stage, start)
            raise
        self._add_time(stage, start)

    def _add_time(self, stage: Stage, start: float) -> None:
        state = self.stage(stage)
        self._state["stages"][stage] = {**state, "seconds": state["seconds"] + time.monotonic() - start}
        self._write()

    def mark_done_after(self, stage: Stage, seconds: float) -> None:
        """Add *seconds* to the time of *stage*, and mark it as done."""
        state = self.stage(stage)
        self._state["stages"][stage] = {**state, "seconds": state["seconds"] + seconds, "done": True, "ended": now()}
        self._write()

    def mark_done(self, stage: Stage, parameters: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Mark *stage* as done, with its *parameters* and its *result*."""
        success = {"done": True, "for": dict(parameters), "came": dict(result), "ended": now()}
        self._state["stages"][stage] = {**self.stage(stage), **success}
        self._write()

    def _write(self) -> None:
        write_atomic(self.directory / STATE, json.dumps(self._state, indent=1) + "\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _directory_of(request: IterationRequest) -> Path:
    """Return the directory of all iterations of the request's server."""
    return request.stack.project.resolve() / PROJECT_DIRECTORY / ITERATIONS / request.server

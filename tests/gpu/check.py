"""A check: a function with a name, needs and a time limit, which records figures."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "failed", "skipped", "not run"]
Figure = str | float | int | bool | None


class CheckFailed(Exception):
    """A figure is wrong. The message names the figure and what is expected."""


class CheckSkipped(Exception):
    """This machine cannot run the check. The message names what is missing."""


def need(condition: bool, problem: str) -> None:
    """Raise unless *condition* holds.

    Raises:
        CheckFailed: It does not; the message is *problem*.
    """
    if not condition:
        raise CheckFailed(problem)


@dataclass(frozen=True)
class Target:
    """The device that a check runs on, and its size."""

    kind: str = "cuda"
    """``cuda`` or ``cpu``."""
    tiny: bool = False
    """Whether the smallest size is enough: tests of the checks themselves measure no speed."""


class Recorder:
    """The figures of a check, in a file from the first one on: a crash or a hang loses none of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.figures: dict[str, Figure] = {}

    def record(self, **figures: Figure) -> None:
        self.figures |= figures
        self.write()

    def write(self, **result: str) -> None:
        """Write the figures, and the *result* of the check: its status and the reason."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({"figures": self.figures, **result}))
        new.replace(self._path)


@dataclass(frozen=True)
class Check:
    """One check."""

    name: str
    """Name in the table: ``tensorrt-int8``."""
    what: str
    """The subject in a sentence of the documentation."""
    run: Callable[[Recorder, Target], None]
    seconds: float
    """Time limit, after which the process of the check is killed."""
    gpus: int = 1
    """NVIDIA GPUs that the check needs; 0: it runs on a processor."""
    packages: tuple[str, ...] = ()
    """Modules that have to be importable."""
    stage: int = 1
    """1 for the checks that come first; each stage fits the time limit of a run by itself."""
    stands_for: str = ""
    """Name of the check with the same subject on a GPU, in whose place this one runs on a machine without one."""

    @property
    def target(self) -> Target:
        return Target("cuda" if self.gpus else "cpu")

    def on_processor(self, name: str, what: str, seconds: float) -> "Check":
        """Return the same check on a processor."""
        return replace(self, name=name, what=what, seconds=seconds, gpus=0, stage=1, stands_for=self.name)


def check(
    name: str,
    what: str,
    seconds: float,
    *,
    gpus: int = 1,
    packages: tuple[str, ...] = (),
    stage: int = 1,
    stands_for: str = "",
) -> Callable[[Callable[[Recorder, Target], None]], Check]:
    """Make a check of a function, whose arguments are the fields of `Check`."""
    return lambda function: Check(name, what, function, seconds, gpus, packages, stage, stands_for)


@dataclass(frozen=True)
class Outcome:
    """The result of one check."""

    name: str
    what: str
    status: Status
    reason: str = ""
    """Why the check is not ok; empty if it is."""
    seconds: float = 0.0
    figures: dict[str, Figure] = field(default_factory=dict)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Outcome":
        return Outcome(**value)

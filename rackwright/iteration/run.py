"""The stages, one after the other: those that are done stay done, and an error says in which one it was."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rackwright.errors import DeclarationError, RackwrightError, StepFailed, command
from rackwright.iteration import gate, report
from rackwright.iteration.candidates import MODEL, TRAINING, StartingModel, found
from rackwright.iteration.request import ABOUT, QUANTIZE, TUNE, IterationRequest, Stage
from rackwright.iteration.work import Work, write
from rackwright.progress import Progress
from rackwright.status import servers
from rackwright.toolchain import cache
from workloads import config_file
from workloads.errors import WorkloadError
from workloads.quantize.config import Settings
from workloads.serving import model as published
from workloads.training.config import TrainingConfig

TRAINER, QUANTIZER, COMPARE = "workloads.training", "workloads.quantize", "workloads.quantize.compare"
ALONE: dict[str, Any] = {"launcher": "any", "world": None, "elastic": False, "sharding": "none"}
"""In the place of how the parent was started, somewhere else."""
FINE_TUNING = {"replay": 0.5, "patience": 5}


class Outside(Protocol):
    """All that an iteration does beyond its own directory."""

    def python(self, argv: Sequence[str], progress: Progress) -> tuple[int, str]:
        """Run ``python -m`` *argv* in the environment of the workloads; return its status and its last line."""

    def promote(self, model: str) -> None:
        """Write the directory *model*, below the project's, into the fleet's file."""

    def declared(self) -> str:
        """Return the version that the fleet's file has now."""

    def up(self) -> int:
        """Roll it out, and return the exit status of `rackwright up`."""

    def progress(self, text: str) -> None:
        """Tell a person how it gets on."""


class InStage(RackwrightError):
    """An error, with the stage that it was in."""

    def __init__(self, stage: Stage, error: RackwrightError | WorkloadError) -> None:
        Exception.__init__(self, f"{stage}: {error}")
        self.stage, self.exit_status = stage, error.exit_status  # type: ignore[misc]
        self.report: report.ReportData | None = None
        """As far as it came, where there is an iteration."""


class ProcessFailed(RackwrightError):
    """A process of the workloads that did not end well, with its own status."""

    def __init__(self, module: str, status: int, said: str) -> None:
        fix = "Mend what it names, and run this again: it goes on here"
        super().__init__(f"python -m {module}", f"got status {status}, {said!r}", "its process ends with 0", fix)
        self.exit_status = status if status in (2, 3) else StepFailed.exit_status  # type: ignore[misc]


def iterate(asked: IterationRequest, outside: Outside) -> dict[str, Any]:
    """Bring new rows to what is served, as far as is asked for, and return the report.

    Raises:
        InStage: a stage has refused it or failed. What was done before stays done, and the report says how far it is.
    """
    began = time.monotonic()
    outside.progress(_heading(Stage.FIND))
    try:
        work = _opened(asked)
    except (RackwrightError, WorkloadError) as error:
        raise InStage(Stage.FIND, error) from error
    seconds = time.monotonic() - began
    with cache.locked(work.directory / "lock", outside.progress):
        work = work.again()  # as whoever held the lock has left it
        work.took(Stage.FIND, seconds)
        outside.progress(
            f"  version {work.found.version}, from {work.found.checkpoint}; all is kept in {work.directory}"
        )
        return _Iteration(asked, outside, work).run()


def _opened(asked: IterationRequest) -> Work:
    asked.refuse_unknown()
    key = asked.key()
    declared = servers.specs(asked.stack, asked.server)[0].version
    work = Work.goes_on(asked, key, declared)
    begins = work.found if work else found(asked.stack, asked.server, asked.given, asked.tracking)
    _config(asked, begins, asked.data)  # what is wrong with settings is said before all work
    _settings(asked, begins)
    return work or Work.begin(asked, key, begins)


def _config(asked: IterationRequest, begins: StartingModel, data: Path) -> TrainingConfig:
    """Return what the fine-tuning is: its parent's configuration, with the new rows and the guide's schedule."""
    values = {
        **begins.config,
        **ALONE,
        "data": {"kind": "rows", "path": str(data)},
        "fine_tuning": {**FINE_TUNING, "parent": str(begins.checkpoint), "may_lose": asked.may_lose},
        "schedule": {"kind": "adaptive"},
    }
    return config_file.apply_changes(TrainingConfig, "--set tune", json.loads(json.dumps(values)), asked.of(TUNE))


def _settings(asked: IterationRequest, begins: StartingModel) -> Settings:
    """Return how it is quantised: as what is served is, or for another target as the catalogue says."""
    wanted = asked.stack.fleet.servers[asked.server].gate.accuracy_kept
    values = Settings().model_dump(mode="json")
    if asked.target in (None, begins.target):
        values["precision"] = begins.precision
    if wanted is not None:
        values["gate"]["accuracy_kept"] = wanted
    return config_file.apply_changes(Settings, "--set quantize", values, asked.of(QUANTIZE))


def _heading(stage: Stage, more: str = "") -> str:
    number = list(Stage).index(stage) + 1
    return f"{number}/{len(Stage)} {stage}: {ABOUT[stage]}{more}"


class _Iteration:
    def __init__(self, asked: IterationRequest, outside: Outside, work: Work) -> None:
        self.asked, self.outside, self.work = asked, outside, work
        self.training, self.model = work.directory / TRAINING, work.directory / MODEL
        self.target = asked.target or work.found.target

    def run(self) -> dict[str, Any]:
        stage = Stage.FIND
        try:
            for stage in self._stages():
                self._stage(stage)
        except InStage as error:
            error.report = self._report("refused" if error.exit_status == 1 else "failed", stage, str(error))
            raise
        except BaseException:
            self._report("interrupted", stage)
            raise
        return self._report(report.OUTCOMES[stage], stage)

    def _report(self, outcome: str, stage: Stage, why: str = "") -> dict[str, Any]:
        made = report.make(self.asked, self.work, outcome, stage, why)
        report.write(made, self.work.directory)
        return made

    def _stages(self) -> list[Stage]:
        stages = list(Stage)
        return stages[1 : stages.index(self.asked.until) + 1]

    def _stage(self, stage: Stage) -> None:
        stages: dict[Stage, tuple[Callable[[], dict[str, Any]], dict[str, Any]]] = {
            Stage.TUNE: (self._tune, {"may_lose": self.asked.may_lose}),
            Stage.GATE: (self._gate, {"may_lose": self.asked.may_lose}),
            Stage.QUANTIZE: (self._quantize, self._quantized_for()),
            Stage.PROMOTE: (self._promote, {"version": self.work.made_version}),
            Stage.UP: (self._up, {"stack": self.asked.stack.name}),
        }
        does, for_ = stages[stage]
        if self.work.done(stage, for_) and self._holds(stage):
            self.outside.progress(_heading(stage, ": done before"))
            return
        self.outside.progress(_heading(stage))
        try:
            with self.work.timed(stage):
                came = does()
            self.work.ended(stage, for_, came)
        except (RackwrightError, WorkloadError) as error:
            raise InStage(stage, error) from error

    def _holds(self, stage: Stage) -> bool:
        """Return whether what *stage* did is so still: a file may have been written, or a directory removed."""
        if stage is Stage.TUNE:
            return (self.training / "lineage.json").exists()
        if stage is Stage.QUANTIZE:
            return (self.model / published.NAME).exists()
        return stage is not Stage.PROMOTE or self.outside.declared() == self.work.made_version

    def _python(self, *argv: str | Path) -> tuple[int, str]:
        return self.outside.python([str(each) for each in argv], lambda line: self.outside.progress(f"  {line}"))

    def _tune(self) -> dict[str, Any]:
        run = self.work.directory / "run.json"
        config = _config(self.asked, self.work.found, self.work.directory / "data.npz")
        write(run, config.model_dump_json(indent=2) + "\n")
        several = self.asked.processes > 1
        begin = (f"{TRAINER}.launch", "-np", str(self.asked.processes)) if several else (TRAINER,)
        status, said = self._python(*begin, run, "--out", self.training)
        lineage = self._lineage()
        if status not in (0, 1) or "checkpoint" not in lineage:  # 1: worse than its parent, which the gate has to say
            raise ProcessFailed(begin[0], status, said)
        return {name: lineage.get(name) for name in ("checkpoint", "step", "best_step", "scores")}

    def _lineage(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = json.loads((self.training / "lineage.json").read_text())
        except FileNotFoundError:
            return {}
        return told

    def _gate(self) -> dict[str, Any]:
        short = self._compared(Stage.GATE, self.training)
        short += gate.worse_than_parent(self.work.stage(Stage.TUNE)["came"]["scores"] or [], self.asked.may_lose)
        fix = f"Bring more rows, replay more of the old (--set {TUNE}fine_tuning.replay=0.7), or say --may-lose"
        gate.refuse(short, self.asked.may_lose, fix)
        return {}

    def _compared(self, stage: Stage, after: Path) -> list[str]:
        """Return in words what the model in *after* lacks beside what is served."""
        out, served = self.work.directory / report.COMPARED[stage], self.work.found
        if (now := published.read(served.directory).version) != served.version:
            want, fix = f"version {served.version} was there, which is served", "Publish it there again"
            raise DeclarationError(str(served.directory), f"got version {now}", want, fix)
        argv = (served.directory, after, "--training", self.training, "--out", out)
        status, said = self._python(COMPARE, *argv)
        if status:
            raise ProcessFailed(COMPARE, status, said)
        return gate.shortfalls(json.loads(out.read_text()), self.asked.may_lose)

    def _quantized_for(self) -> dict[str, Any]:
        settings = _settings(self.asked, self.work.found).model_dump(mode="json")
        return {"target": self.target, "settings": settings, "may_lose": self.asked.may_lose}

    def _quantize(self) -> dict[str, Any]:
        told = self._quantized_for()
        settings = self.work.directory / "quantize.json"
        write(settings, json.dumps(told["settings"], indent=2) + "\n")
        argv = (self.training, "--data", TRAINING, "--target", self.target, "--out", self.model, "--settings", settings)
        status, said = self._python(QUANTIZER, *argv)
        if status == 1:
            got, fix = f"got {said!r}", f"See its report, and leave more in full precision with --set {QUANTIZE}…"
            raise gate.NotGoodEnough("quantising", got, "it keeps what its gate asks", fix)
        if status:
            raise ProcessFailed(QUANTIZER, status, said)
        short = self._compared(Stage.QUANTIZE, self.model)
        gate.refuse(short, self.asked.may_lose, f"See {self.model.name}.report for what 8 bits cost, or say --may-lose")
        model = published.read(self.model)
        size = sum(file.bytes for file in model.files.values())
        return {"version": model.version, "bytes": size, "precision": model.lineage["precision"], "target": self.target}

    def _promote(self) -> dict[str, Any]:
        self.outside.promote(str(self.model.relative_to(self.asked.stack.project.resolve())))
        return {}

    def _up(self) -> dict[str, Any]:
        status = self.outside.up()
        if status == 130:
            raise KeyboardInterrupt
        if status:
            raise RolloutFailed(self.asked, status)
        return {}


class RolloutFailed(RackwrightError):
    """What `rackwright up` ended with; the fleet's file has the new model already."""

    def __init__(self, asked: IterationRequest, status: int) -> None:
        stack, server = asked.stack.name, asked.server
        back = command("rackwright server rollback {} {}", stack, server)
        fix = f"Run this again, and it goes on here; or run {back} and `up`"
        super().__init__(f"stack {stack}", f"got status {status} of `up`", "every host serves the new version", fix)
        self.exit_status = status  # type: ignore[misc]

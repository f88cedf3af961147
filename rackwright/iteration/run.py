"""The stages of an iteration, run in their order; a later start skips the stages that are done."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from rackwright.errors import DeclarationError, Diagnostic, StepFailed, UserError, command
from rackwright.files import write_atomic
from rackwright.iteration import gate, report
from rackwright.iteration.candidates import MODEL, TRAINING, StartingModel, find_starting_model
from rackwright.iteration.request import DESCRIPTIONS, QUANTIZE, TUNE, IterationRequest, Stage
from rackwright.iteration.work import Work
from rackwright.progress import Progress
from rackwright.status import servers
from rackwright.toolchain import cache
from workloads import config_file
from workloads.quantize.config import QuantizeSettings
from workloads.serving import model as model_directory
from workloads.training.config import TrainingConfig

TRAINER, QUANTIZER, COMPARE = "workloads.training", "workloads.quantize", "workloads.quantize.compare"
LOCAL: dict[str, Any] = {"launcher": "any", "world": None, "elastic": False, "sharding": "none"}
"""Settings of a training on this computer, in place of those of its parent, which may have run on several hosts."""
FINE_TUNING = {"replay": 0.5, "patience": 5}


class IterationActions(Protocol):
    """The actions of an iteration outside its own directory."""

    def run_python(self, argv: Sequence[str], progress: Progress) -> tuple[int, str]:
        """Run ``python -m`` *argv* in the environment of the workloads; return its status and its last line."""

    def promote(self, model: str) -> None:
        """Write the directory *model*, below the project's, into the fleet's file."""

    def declared_version(self) -> str:
        """Return the version that the fleet's file declares now."""

    def roll_out(self) -> int:
        """Run `rackwright up`, and return its exit status."""

    def progress(self, text: str) -> None:
        """Show a line of progress to the operator."""


class StageFailed(UserError):
    """An error with the stage in which it occurred."""

    def __init__(self, stage: Stage, error: UserError) -> None:
        super().__init__(*(replace(each, where=f"{stage}: {each.where}") for each in error.diagnostics))
        self.stage, self.exit_status = stage, error.exit_status  # type: ignore[misc]
        self.report: report.ReportData | None = None
        """The report up to this stage; None before the iteration has a directory."""


class ProcessFailed(UserError):
    """A process of the workloads failed. It determines the exit status."""

    def __init__(self, module: str, status: int, last_line: str) -> None:
        problem = f"the process failed with status {status}, and printed {last_line!r}"
        help = "Correct the reported error, and run the command again, which continues with this stage"
        super().__init__(Diagnostic(f"python -m {module}", problem, help=help))
        self.exit_status = status if status in (2, 3) else StepFailed.exit_status  # type: ignore[misc]


def iterate(request: IterationRequest, actions: IterationActions) -> dict[str, Any]:
    """Run the stages of *request*, up to its last one, and return the report.

    Raises:
        StageFailed: A stage refused or failed. Earlier stages stay done, and the report shows them.
    """
    start = time.monotonic()
    actions.progress(_heading(Stage.FIND))
    try:
        work = _open_work(request)
    except UserError as error:
        raise StageFailed(Stage.FIND, error) from error
    seconds = time.monotonic() - start
    with cache.hold_lock(work.directory / "lock", actions.progress):
        work = work.reload()  # another process may have held the lock and changed the state
        work.mark_done_after(Stage.FIND, seconds)
        model = work.starting_model
        actions.progress(f"  version {model.version}, from {model.checkpoint}; the iteration is in {work.directory}")
        return _Iteration(request, actions, work).run()


def _open_work(request: IterationRequest) -> Work:
    request.refuse_unknown()
    key = request.key()
    declared = servers.specs(request.stack, request.server)[0].version
    work = Work.find_declared(request, key, declared)
    model = (
        work.starting_model
        if work
        else find_starting_model(request.stack, request.server, request.training_directory, request.tracking)
    )
    _training_config(request, model, request.data)  # wrong settings are refused before any work
    _quantize_settings(request, model)
    return work or Work.open(request, key, model)


def _training_config(request: IterationRequest, model: StartingModel, data: Path) -> TrainingConfig:
    """Return the configuration of the fine-tuning: its parent's, with the new rows and the guide's schedule."""
    values = {
        **model.config,
        **LOCAL,
        "data": {"kind": "rows", "path": str(data)},
        "fine_tuning": {**FINE_TUNING, "parent": str(model.checkpoint), "may_lose": request.may_lose},
        "schedule": {"kind": "adaptive"},
    }
    changes = request.changes_of(TUNE)
    return config_file.apply_changes(TrainingConfig, "--set tune", json.loads(json.dumps(values)), changes)


def _quantize_settings(request: IterationRequest, model: StartingModel) -> QuantizeSettings:
    """Return the settings of quantising: the precision of the served model, or for another target the catalogue's."""
    accuracy_kept = request.stack.fleet.servers[request.server].gate.accuracy_kept
    values = QuantizeSettings().model_dump(mode="json")
    if request.target in (None, model.target):
        values["precision"] = model.precision
    if accuracy_kept is not None:
        values["gate"]["accuracy_kept"] = accuracy_kept
    return config_file.apply_changes(QuantizeSettings, "--set quantize", values, request.changes_of(QUANTIZE))


def _heading(stage: Stage, suffix: str = "") -> str:
    number = list(Stage).index(stage) + 1
    return f"{number}/{len(Stage)} {stage}: {DESCRIPTIONS[stage]}{suffix}"


class _Iteration:
    def __init__(self, request: IterationRequest, actions: IterationActions, work: Work) -> None:
        self.request, self.actions, self.work = request, actions, work
        self.training, self.model = work.directory / TRAINING, work.directory / MODEL
        self.target = request.target or work.starting_model.target

    def run(self) -> dict[str, Any]:
        stage = Stage.FIND
        try:
            for stage in self._stages():
                self._run_stage(stage)
        except StageFailed as error:
            error.report = self._write_report("refused" if error.exit_status == 1 else "failed", stage, str(error))
            raise
        except BaseException:
            self._write_report("interrupted", stage)
            raise
        return self._write_report(report.OUTCOMES[stage], stage)

    def _write_report(self, outcome: str, stage: Stage, why: str = "") -> dict[str, Any]:
        data = report.build_report(self.request, self.work, outcome, stage, why)
        report.write(data, self.work.directory)
        return data

    def _stages(self) -> list[Stage]:
        stages = list(Stage)
        return stages[1 : stages.index(self.request.until) + 1]

    def _run_stage(self, stage: Stage) -> None:
        stages: dict[Stage, tuple[Callable[[], dict[str, Any]], dict[str, Any]]] = {
            Stage.TUNE: (self._tune, {"may_lose": self.request.may_lose}),
            Stage.GATE: (self._gate, {"may_lose": self.request.may_lose}),
            Stage.QUANTIZE: (self._quantize, self._quantize_parameters()),
            Stage.PROMOTE: (self._promote, {"version": self.work.result_version}),
            Stage.UP: (self._roll_out, {"stack": self.request.stack.name}),
        }
        execute, parameters = stages[stage]
        if self.work.is_done(stage, parameters) and self._result_exists(stage):
            self.actions.progress(_heading(stage, ": done before"))
            return
        self.actions.progress(_heading(stage))
        try:
            with self.work.measure(stage):
                result = execute()
            self.work.mark_done(stage, parameters, result)
        except UserError as error:
            raise StageFailed(stage, error) from error

    def _result_exists(self, stage: Stage) -> bool:
        """Return whether the result of *stage* still exists. A file may have changed, or a directory is removed."""
        if stage is Stage.TUNE:
            return (self.training / "lineage.json").exists()
        if stage is Stage.QUANTIZE:
            return (self.model / model_directory.NAME).exists()
        return stage is not Stage.PROMOTE or self.actions.declared_version() == self.work.result_version

    def _run_python(self, *argv: str | Path) -> tuple[int, str]:
        return self.actions.run_python([str(each) for each in argv], lambda line: self.actions.progress(f"  {line}"))

    def _tune(self) -> dict[str, Any]:
        run = self.work.directory / "run.json"
        config = _training_config(self.request, self.work.starting_model, self.work.directory / "data.npz")
        write_atomic(run, config.model_dump_json(indent=2) + "\n")
        processes = self.request.processes
        module = (f"{TRAINER}.launch", "-np", str(processes)) if processes > 1 else (TRAINER,)
        status, last_line = self._run_python(*module, run, "--out", self.training)
        lineage = self._lineage()
        if status not in (0, 1) or "checkpoint" not in lineage:  # 1: worse than its parent; the gate reports that
            raise ProcessFailed(module[0], status, last_line)
        return {name: lineage.get(name) for name in ("checkpoint", "step", "best_step", "scores")}

    def _lineage(self) -> dict[str, Any]:
        try:
            lineage: dict[str, Any] = json.loads((self.training / "lineage.json").read_text())
        except FileNotFoundError:
            return {}
        return lineage

    def _gate(self) -> dict[str, Any]:
        shortfalls = self._compare(Stage.GATE, self.training)
        scores = self.work.stage(Stage.TUNE)["came"]["scores"] or []
        shortfalls += gate.worse_than_parent(scores, self.request.may_lose)
        help = f"Add more rows, replay more old data (--set {TUNE}fine_tuning.replay=0.7), or raise --may-lose"
        gate.refuse_shortfalls(shortfalls, self.request.may_lose, help)
        return {}

    def _compare(self, stage: Stage, candidate: Path) -> list[str]:
        """Return the shortfalls of the model in *candidate* against the served one, as texts."""
        out, served = self.work.directory / report.COMPARISONS[stage], self.work.starting_model
        if (version := model_directory.read(served.directory).version) != served.version:
            problem, expected = f"the directory has version {version}", f"the served version, {served.version}"
            raise DeclarationError(
                Diagnostic(str(served.directory), problem, expected, "Publish the served version there again")
            )
        argv = (served.directory, candidate, "--training", self.training, "--out", out)
        status, last_line = self._run_python(COMPARE, *argv)
        if status:
            raise ProcessFailed(COMPARE, status, last_line)
        return gate.shortfalls(json.loads(out.read_text()), self.request.may_lose)

    def _quantize_parameters(self) -> dict[str, Any]:
        settings = _quantize_settings(self.request, self.work.starting_model).model_dump(mode="json")
        return {"target": self.target, "settings": settings, "may_lose": self.request.may_lose}

    def _quantize(self) -> dict[str, Any]:
        settings = self.work.directory / "quantize.json"
        write_atomic(settings, json.dumps(self._quantize_parameters()["settings"], indent=2) + "\n")
        argv = (self.training, "--data", TRAINING, "--target", self.target, "--out", self.model, "--settings", settings)
        status, last_line = self._run_python(QUANTIZER, *argv)
        if status == 1:
            problem = f"the quantised model fails its gate: {last_line!r}"
            help = f"Read its report, and leave more in full precision with --set {QUANTIZE}…"
            raise gate.AccuracyTooLow(Diagnostic("quantising", problem, help=help))
        if status:
            raise ProcessFailed(QUANTIZER, status, last_line)
        shortfalls = self._compare(Stage.QUANTIZE, self.model)
        help = f"Read the loss by 8 bits in {self.model.name}.report, or raise --may-lose"
        gate.refuse_shortfalls(shortfalls, self.request.may_lose, help)
        model = model_directory.read(self.model)
        size = sum(file.bytes for file in model.files.values())
        return {"version": model.version, "bytes": size, "precision": model.lineage["precision"], "target": self.target}

    def _promote(self) -> dict[str, Any]:
        self.actions.promote(str(self.model.relative_to(self.request.stack.project.resolve())))
        return {}

    def _roll_out(self) -> dict[str, Any]:
        status = self.actions.roll_out()
        if status == 130:
            raise KeyboardInterrupt
        if status:
            raise RolloutFailed(self.request, status)
        return {}


class RolloutFailed(UserError):
    """`rackwright up` failed after the new model was written into the fleet's file. It determines the exit status."""

    def __init__(self, request: IterationRequest, status: int) -> None:
        stack, server = request.stack.name, request.server
        rollback = command("rackwright server rollback {} {}", stack, server)
        problem, note = f"the rollout failed: `up` ended with status {status}", "not every host serves the new version"
        help = f"Run the command again to continue with the rollout; to go back, run {rollback} and `up`"
        super().__init__(Diagnostic(f"stack {stack}", problem, help=help, note=note))
        self.exit_status = status  # type: ignore[misc]

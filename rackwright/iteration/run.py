"""The stages of an iteration, run in their order; a later start skips the stages that are done."""

import errno
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from rackwright.errors import DeclarationError, Diagnostic, StepFailed, UserError, command
from rackwright.files import write_atomic
from rackwright.iteration import choices, report
from rackwright.iteration.candidates import find_starting_model
from rackwright.iteration.families import family_of
from rackwright.iteration.family import Family, IterationContext, stages_of
from rackwright.iteration.process_runner import LOG, ProcessFailed, ProcessRunner
from rackwright.iteration.request import DESCRIPTIONS, TUNE, IterationRequest, Stage
from rackwright.iteration.work import Work
from rackwright.progress import Progress
from rackwright.status import servers
from rackwright.toolchain import cache
from workloads.evaluation.data import EvaluationData
from workloads.serving import model as model_directory

TRAINER = "workloads.training"
FULL = (errno.ENOSPC, errno.EDQUOT)
LINEAGE_KEY = "iteration"
"""Key of the gate's limits in the lineage of a new model."""


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
        self.stage, self.exit_status = stage, error.exit_status
        self.report: report.ReportData | None = None
        """The report up to this stage; None before the iteration has a directory."""


def iterate(request: IterationRequest, actions: IterationActions) -> report.ReportData:
    """Run the stages of *request*, up to its last one, and return the report.

    Raises:
        StageFailed: A stage refused or failed. Earlier stages stay done, and the report shows them.
    """
    start = time.monotonic()
    try:
        family = family_of(request.data)
        actions.progress(_heading(Stage.FIND, stages_of(family)))
        questions = choices.read(request.choices) if request.choices is not None else None
        work = _open_work(request, family)
    except UserError as error:
        raise StageFailed(Stage.FIND, error) from error
    except OSError as error:
        raise StageFailed(Stage.FIND, _full_drive(error, request, request.stack.project)) from error
    seconds = time.monotonic() - start
    with cache.hold_lock(work.directory / "lock", actions.progress):
        work = work.reload()  # another process may have held the lock and changed the state
        work.mark_done_after(Stage.FIND, seconds)
        model = work.starting_model
        actions.progress(f"  version {model.version}, from {model.checkpoint}; the iteration is in {work.directory}")
        return _Iteration(request, family, actions, work, questions).run()


def _open_work(request: IterationRequest, family: Family) -> Work:
    _refuse_unknown(request, family)
    key = {"data": family.digest(request.data), "set": request.changes_of(TUNE)}  # all that decides the new weights
    declared = servers.specs(request.stack, request.server)[0].version
    work = Work.find_declared(request, key, declared)
    model = (
        work.starting_model
        if work
        else find_starting_model(request.stack, request.server, request.training_directory, request.tracking, family)
    )
    family.training_config(request, model, request.data)  # wrong settings are refused before any work
    family.publishing_parameters(request, model)
    return work or Work.open(request, key, model)


def _refuse_unknown(request: IterationRequest, family: Family) -> None:
    """Raise if a change or the last stage belongs to no stage of *family*.

    Raises:
        DeclarationError: Names all of them.
    """
    prefixes, stages = (TUNE, f"{family.publishing}."), stages_of(family)
    expected, help = f"{prefixes[0]}KEY=VALUE or {prefixes[1]}KEY=VALUE", f"Write it like {TUNE}steps=100"
    wrong = [
        Diagnostic("--set", f"{change!r} is not a setting of this iteration", expected, help)
        for change in request.changes
        if not change.startswith(prefixes)
    ]
    if request.choices is not None and not family.takes_choices:
        problem, expected = f"models for {request.data.suffix} data answer no questions", "conversations as new data"
        wrong.append(Diagnostic("--choices", problem, expected, "Leave --choices out; --at-least is a floor"))
    if request.until not in stages:
        problem = f"an iteration with {request.data.suffix} data has no stage {request.until}"
        wrong.append(Diagnostic("--until", problem, f"one of {', '.join(stages)}", "Name another stage"))
    if wrong:
        raise DeclarationError(*wrong)


def _heading(stage: Stage, stages: Sequence[Stage]) -> str:
    return f"{stages.index(stage) + 1}/{len(stages)} {stage}: {DESCRIPTIONS[stage]}"


class _Iteration:
    def __init__(
        self,
        request: IterationRequest,
        family: Family,
        actions: IterationActions,
        work: Work,
        questions: EvaluationData | None,
    ) -> None:
        self.request, self.family, self.actions, self.work = request, family, actions, work
        run_python = ProcessRunner(actions.run_python, actions.progress, work.directory / LOG)
        self.context = IterationContext(request, work, run_python, questions)
        self.stages = stages_of(family)

    def run(self) -> report.ReportData:
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

    def _write_report(self, outcome: str, stage: Stage, why: str = "") -> report.ReportData:
        data = report.build_report(self.request, self.family, self.work, outcome, stage, why)
        try:
            report.write(data, self.work.directory)
        except OSError as error:
            if outcome in report.OUTCOMES.values() or error.errno not in FULL:
                raise
            self.actions.progress(f"  the report cannot be written: {error.strerror}")  # a full drive ended the stage
        return data

    def _stages(self) -> list[Stage]:
        return list(self.stages[1 : self.stages.index(self.request.until) + 1])

    def _run_stage(self, stage: Stage) -> None:
        stages: dict[Stage, tuple[Callable[[], dict[str, Any]], dict[str, Any]]] = {
            Stage.TUNE: (self._tune, {"may_lose": self.request.limits.may_lose}),
            Stage.GATE: (self._gate, self._gate_parameters()),
            self.family.publishing: (self._publish, self._publishing_parameters()),
            Stage.PROMOTE: (self._promote, {"version": self.work.result_version}),
            Stage.UP: (self._roll_out, {"stack": self.request.stack.name}),
        }
        execute, parameters = stages[stage]
        if self.work.is_done(stage, parameters) and self._result_exists(stage):
            self.actions.progress(f"{_heading(stage, self.stages)}: done before")
            return
        self.actions.progress(_heading(stage, self.stages))
        try:
            with self.work.measure(stage):
                result = execute()
            self.work.mark_done(stage, parameters, result)
        except UserError as error:
            raise StageFailed(stage, error) from error
        except OSError as error:
            raise StageFailed(stage, _full_drive(error, self.request, self.work.directory)) from error

    def _result_exists(self, stage: Stage) -> bool:
        """Return whether the result of *stage* still exists. A file may have changed, or a directory is removed."""
        if stage is Stage.TUNE:
            return (self.context.training / "lineage.json").exists()
        if stage is self.family.publishing:
            return (self.context.model / model_directory.NAME).exists()
        return stage is not Stage.PROMOTE or self.actions.declared_version() == self.work.result_version

    def _tune(self) -> dict[str, Any]:
        run = self.work.directory / "run.json"
        config = self.family.training_config(self.request, self.work.starting_model, self.context.data)
        write_atomic(run, config.model_dump_json(indent=2) + "\n")
        processes = self.request.processes
        module = (f"{TRAINER}.launch", "-np", str(processes)) if processes > 1 else (TRAINER,)
        result = self.context.run_python(*module, run, "--out", self.context.training)
        lineage = self._lineage()
        is_worse = result.is_refusal and lineage.get("published") is False  # than its parent; the gate reports that
        if (result.status and not is_worse) or "checkpoint" not in lineage:
            raise ProcessFailed(self.request, result)
        return {name: lineage.get(name) for name in ("checkpoint", "step", "best_step", "scores")}

    def _lineage(self) -> dict[str, Any]:
        try:
            lineage: dict[str, Any] = json.loads((self.context.training / "lineage.json").read_text())
        except FileNotFoundError:
            return {}
        return lineage

    def _gate_parameters(self) -> dict[str, Any]:
        questions = self.context.questions
        return {**self.request.limits.as_data(), **({"choices": questions.sha256} if questions else {})}

    def _gate(self) -> dict[str, Any]:
        self.family.gate(self.context)
        return {}

    def _publishing_parameters(self) -> dict[str, Any]:
        return self.family.publishing_parameters(self.request, self.work.starting_model)

    def _publish(self) -> dict[str, Any]:
        result = self.family.publish(self.context)
        self._record_gate()
        return result

    def _record_gate(self) -> None:
        """Write the limits of the gate into the lineage of the published model, which keeps its version."""
        model = model_directory.read(self.context.model)
        record = {
            "id": self.work.name,
            "data": self.work.data_digest,
            **self.request.limits.as_data(),
            "choices": choices.figures_of(self.work),
        }
        lineage = {**model.lineage, LINEAGE_KEY: record}
        text = model.model_copy(update={"lineage": lineage}).model_dump_json(indent=1)
        write_atomic(self.context.model / model_directory.NAME, f"{text}\n")

    def _promote(self) -> dict[str, Any]:
        if warning := report.floor_warning(self.request, self.family, self.work):
            self.actions.progress(f"  warning: {warning}")
        self.actions.promote(str(self.context.model.relative_to(self.request.stack.project.resolve())))
        return {}

    def _roll_out(self) -> dict[str, Any]:
        status = self.actions.roll_out()
        if status == 130:
            raise KeyboardInterrupt
        if status:
            raise RolloutFailed(self.request, status)
        return {}


def _full_drive(error: OSError, request: IterationRequest, directory: Path) -> UserError:
    """Return the error of a full drive, by default that of *directory*; raise any other *error*."""
    if error.errno not in FULL:
        raise error
    where, problem = str(error.filename or directory), "no space is left on its drive"
    return StepFailed(Diagnostic(where, problem, help=f"Free some space. {request.resume_help}"))


class RolloutFailed(UserError):
    """`rackwright up` failed after the new model was written into the fleet's file. It determines the exit status."""

    def __init__(self, request: IterationRequest, status: int) -> None:
        stack, server = request.stack.name, request.server
        rollback = command("rackwright server rollback {} {}", stack, server)
        problem, note = f"the rollout failed: `up` ended with status {status}", "not every host serves the new version"
        help = f"{request.resume_help}. To go back, run {rollback} and `up`"
        super().__init__(Diagnostic(f"stack {stack}", problem, help=help, note=note))
        self.exit_status = status

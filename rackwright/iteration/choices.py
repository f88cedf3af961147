"""Questions with choices as a part of the gate: a new language model answers as many as the served one, or a floor."""

import json
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.iteration import gate
from rackwright.iteration.family import IterationContext
from rackwright.iteration.process_runner import ProcessFailed
from rackwright.iteration.work import Work
from workloads.evaluation.data import EvaluationData
from workloads.evaluation.data import read as read_data

EVALUATOR = "workloads.evaluation.trained"
FIGURES = "choices.json"
"""File with the figures of both models, in the directory of the iteration."""


class ChoiceFigures(TypedDict):
    """The answers of both models to questions with choices."""

    data: str
    """Name of the file with the questions."""
    sha256: str
    """SHA-256 of the file."""
    questions: int
    """Number of questions."""
    before: float
    """Share of right answers of the served model, as the checkpoint from which the new one was trained."""
    tuned: float
    """Share of right answers of the fine-tuned model."""


def read(path: Path) -> EvaluationData:
    """Return the checked questions in the file *path*.

    Raises:
        UserError: The file cannot be read, has malformed rows, or too few for a verdict.
    """
    questions = read_data("choices", path)
    if questions.rows < gate.LEAST_ROWS:
        problem, expected = f"{path} has {questions.rows} questions", f"at least {gate.LEAST_ROWS}, for a verdict"
        raise DeclarationError(Diagnostic("--choices", problem, expected, "Add more questions"))
    return questions


def judge(context: IterationContext, questions: EvaluationData) -> ChoiceFigures:
    """Ask the tuned model and its parent *questions*, and return their figures.

    Raises:
        AccuracyTooLow: The tuned model falls short.
        ProcessFailed: The questions were not asked.
    """
    out = context.work.directory / FIGURES
    argv = (context.training, "--choices", questions.path, "--out", out)
    result = context.run_python(EVALUATOR, *argv)
    if result.status:
        raise ProcessFailed(context.request, result)
    figures = figures_of(context.work)
    if figures is None or figures["sha256"] != questions.sha256:
        out.unlink(missing_ok=True)
        problem, expected = f"{questions.path} has changed since the start", "the same questions until the gate"
        raise DeclarationError(Diagnostic("--choices", problem, expected, "Run the command again"))
    limits = context.request.limits
    if short := list(_shortfalls(figures, limits)):
        expected = f"a loss of at most {limits.may_lose:g} on the questions"
        help = "Add conversations like the questions, train longer or at another rate, or replay more old data"
        if not limits.allow(figures["before"], figures["tuned"], new=False):
            help += ", or raise --may-lose"
        if limits.at_least is not None:
            expected += f", and at least {limits.at_least:g} of them right"
            help += f". {gate.LOWER_FLOOR}"
        problem, note = f"the new model falls short: {'; and '.join(short)}", "the model is not promoted"
        raise gate.AccuracyTooLow(Diagnostic("choices", problem, expected, help, note))
    return figures


def _shortfalls(figures: ChoiceFigures, limits: gate.Limits) -> Iterator[str]:
    after, name = figures["tuned"], name_of(figures)
    if not limits.allow(figures["before"], after, new=False):
        yield f"{after:.4f} on {name}, where the served model has {figures['before']:.4f}"
    if not limits.reach_floor(after):
        yield f"{after:.4f} on {name}, of at least {limits.at_least:g}"


def name_of(figures: ChoiceFigures) -> str:
    return f"{figures['questions']} questions of {figures['data']}"


def figures_of(work: Work) -> ChoiceFigures | None:
    """Return the figures of the last gate; None if it asked no questions."""
    try:
        measured = json.loads((work.directory / FIGURES).read_text())
    except FileNotFoundError:
        return None
    [before], [after] = measured["before"], measured["after"]
    return {
        "data": after["data"],
        "sha256": after["sha256"],
        "questions": after["rows"],
        "before": before["accuracy"],
        "tuned": after["accuracy"],
    }

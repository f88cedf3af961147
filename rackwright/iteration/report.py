"""The report of an iteration: its stages with their times, and the accuracy before and after."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.files import write_atomic
from rackwright.iteration import choices, gate
from rackwright.iteration.choices import ChoiceFigures
from rackwright.iteration.families import family_named
from rackwright.iteration.family import Family, stages_of
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.work import Work
from rackwright.terminal import FittingTable

OUTCOMES = {
    Stage.FIND: "found",
    Stage.TUNE: "tuned",
    Stage.GATE: "good enough",
    Stage.QUANTIZE: "quantized",
    Stage.PUBLISH: "published",
    Stage.PROMOTE: "promoted",
    Stage.UP: "served",
}
"""Outcome of an iteration, by its last stage."""
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))
"""Units of sizes, with their bytes."""
TITLES = ("before", "tuned", "quantised")
"""Titles of the numbers of a figure, in the order of a family's `figure_keys`."""
WIDEST = 999_999.5
"""Number from which on a figure has an exponent: a perplexity may have 300 digits."""
FIGURE_COLUMNS = len("999999.4999")
"""Columns of the longest number, by which the tables of all data sets have equal columns."""


class StageData(TypedDict):
    """The state of one stage."""

    seconds: float
    """Duration of all its attempts."""
    done: bool
    """Whether it has succeeded."""


class DataSettings(TypedDict):
    """The new data, and the settings of the iteration."""

    sha256: str
    """SHA-256 of the content of the new data."""
    set: Sequence[str]
    """Changed settings, as given by `--set`."""
    may_lose: float
    """Largest loss of accuracy on data of the earlier training, as a share of 1."""
    must_gain: float
    """Smallest gain of accuracy on the new data, as a share of 1; 0: no loss."""
    at_least: float | None
    """Smallest accuracy on the new data, or on the questions if there are any; null for no floor."""


class ParentData(TypedDict):
    """The checkpoint that was trained further."""

    path: str
    """Path of the checkpoint."""
    sha256: str
    """SHA-256 of its manifest."""


class ModelData(TypedDict):
    """A published model."""

    version: str
    """Version of the model."""
    bytes: int
    """Size of its files, in bytes."""
    target: str
    """Processor for which it was published."""
    precision: str
    """Precision of its weights."""


class DataFigures(TypedDict):
    """The figures of the models on one data set that none of them has learned."""

    data: str
    """Name of the data set."""
    rows: int
    """Number of rows, or of answer tokens of conversations, by which a model is judged."""
    before: float | None
    """Accuracy of the served model, as a share of 1."""
    tuned: float | None
    """Accuracy of the fine-tuned model, as a share of 1."""
    after: float | None
    """Accuracy of the quantised model, as a share of 1; null if there is none."""
    perplexity_before: NotRequired[float | None]
    """Perplexity of the served language model; null if it is no finite number."""
    perplexity_tuned: NotRequired[float | None]
    """Perplexity of the fine-tuned language model; null if it is no finite number."""


class ReportData(TypedDict):
    """The training of a served model on new data, from the search for its training to the rollout."""

    stack: str
    """Name of the stack."""
    server: str
    """Name of the server."""
    family: str
    """Family of the model: `image-classifier` or `language-model`."""
    id: str
    """Id of the iteration, by which a repeated command continues it."""
    directory: str
    """Directory of the iteration's files."""
    outcome: str
    """Outcome of the last stage, or `refused`, `failed` or `interrupted`."""
    stage: str
    """The last stage."""
    why: str
    """Reason why the iteration ended there; empty if it succeeded."""
    started_at: str
    """Time of the first start."""
    ended_at: str | None
    """Time at which the last stage succeeded; null if none has."""
    seconds: float
    """Duration of all stages."""
    stages: Mapping[str, StageData]
    """State by stage."""
    data: DataSettings
    """The new data, and the settings of the iteration."""
    parent: ParentData
    """The checkpoint that was trained further."""
    before: ModelData
    """The served model."""
    after: ModelData | None
    """The new model; null before it is published."""
    accuracy: Sequence[DataFigures]
    """The figures by data set; the new data are the first one."""
    choices: ChoiceFigures | None
    """The answers to questions with choices; null if the gate has asked none."""
    warning: str
    """Warning about a new model that is wrong more often than right, where no floor was set; else empty."""


def build_report(
    request: IterationRequest, family: Family, work: Work, outcome: str, stage: Stage, why: str
) -> ReportData:
    """Return the report of *work* in its present state.

    Args:
        outcome: One of OUTCOMES, or refused, failed or interrupted.
        stage: The last stage.
        why: The reason why the iteration ended there; empty if it succeeded.
    """
    start, published = work.starting_model, work.stage(family.publishing)
    stages = {each: work.stage(each) for each in stages_of(family)}
    return {
        "stack": request.stack.name,
        "server": request.server,
        "family": family.name,
        "id": work.name,
        "directory": str(work.directory),
        "outcome": outcome,
        "stage": str(stage),
        "why": why,
        "started_at": work.began_at,
        "ended_at": next((each["ended"] for each in reversed(stages.values()) if each["done"]), None),
        "seconds": round(sum(each["seconds"] for each in stages.values()), 1),
        "stages": {
            str(name): {"seconds": round(each["seconds"], 1), "done": each["done"]} for name, each in stages.items()
        },
        "data": {
            "sha256": work.data_digest,
            "set": list(request.changes),
            "may_lose": request.limits.may_lose,
            "must_gain": request.limits.must_gain,
            "at_least": request.limits.at_least,
        },
        "parent": {"path": str(start.checkpoint), "sha256": start.digest},
        "before": {
            "version": start.version,
            "bytes": start.bytes,
            "target": start.target,
            "precision": start.precision,
        },
        "after": published["came"] if published["done"] else None,
        "accuracy": [_finite(each) for each in family.figures(work)],
        "choices": choices.figures_of(work),
        "warning": floor_warning(request, family, work),
    }


def floor_warning(request: IterationRequest, family: Family, work: Work) -> str:
    """Return the warning about a gate without a floor; empty if there is no reason for one, or no verdict yet.

    The figure is the last one that the gate has judged: that of the quantised model, if there is one.
    """
    if not work.stage(Stage.GATE)["done"]:
        return ""
    if answers := choices.figures_of(work):
        return gate.floor_warning(answers["tuned"], choices.name_of(answers), request.limits)
    for new in family.figures(work):
        accuracy = new["tuned"] if new["after"] is None else new["after"]
        return gate.floor_warning(accuracy, new["data"], request.limits)
    return ""


def _finite(figures: Mapping[str, object]) -> DataFigures:
    """Return *figures* with None in the place of numbers that JSON does not have."""
    values = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
    return cast("DataFigures", values)


def write(report: ReportData, directory: Path) -> None:
    """Write *report* to *directory*, as report.json and report.md."""
    write_atomic(directory / "report.json", json.dumps(report, indent=1) + "\n")
    write_atomic(directory / "report.md", format_markdown(report))


def format_markdown(report: ReportData) -> str:
    """Return *report* in Markdown."""
    before, after, answers = report["before"], report["after"], report["choices"]
    family = family_named(report["family"])
    columns = {"rows": family.count_title} | {
        key: f"{figure} {title}"
        for figure, keys in family.figure_keys.items()
        for key, title in zip(keys, TITLES, strict=False)
    }
    lines = [
        f"# {report['server']} of stack {report['stack']}: {report['outcome']}",
        "",
        *([f"**{report['why']}**", ""] if report["why"] else []),
        *([f"**Warning: {report['warning']}.**", ""] if report["warning"] else []),
        " ".join(_format_versions(before, after)),
        f"Started {report['started_at']}, {report['seconds']} s in all stages.",
        "",
        "| stage | seconds | |",
        "| --- | ---: | --- |",
        *(f"| {name} | {each['seconds']:.1f} | {_format_state(each)} |" for name, each in report["stages"].items()),
        "",
        f"| data that no model has learned | {' | '.join(columns.values())} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(f"| {row['data']} | {' | '.join(_format_figures(row, [*columns]))} |" for row in report["accuracy"]),
        "",
        *([f"{_format_choices(answers)} SHA-256 of the questions: {answers['sha256']}.", ""] if answers else []),
        f"Times are sums of all attempts, on this computer. SHA-256 of the new data: {report['data']['sha256']}. "
        f"Allowed loss on other data: {report['data']['may_lose']:g}; gain that is asked for on the new data: "
        f"{report['data']['must_gain']:g}; floor: {_format_floor(report['data']['at_least'])}.",
        "",
    ]
    return "\n".join(lines)


def show(report: ReportData, console: Console) -> None:
    """Print *report* on *console*."""
    stages = Table(box=None, pad_edge=False, header_style="bold")
    stages.add_column("stage")
    stages.add_column("seconds", justify="right")
    stages.add_column("")
    for name, each in report["stages"].items():
        stages.add_row(name, f"{each['seconds']:.1f}" if each["seconds"] else "", _format_state(each))
    stages.add_row("all", f"{report['seconds']:.1f}", "")
    console.print(FittingTable(stages))
    if report["accuracy"]:
        _show_figures(report, console)
    lines = [_format_choices(report["choices"])] if report["choices"] else []
    lines += [f"warning: {report['warning']}"] if report["warning"] else []
    for line in (*lines, *_format_versions(report["before"], report["after"])):
        console.print(escape(line), soft_wrap=not console.is_terminal)
    console.print(f"{report['server']}: {report['outcome']}; {escape(report['directory'])}/report.md", soft_wrap=True)


def _show_figures(report: ReportData, console: Console) -> None:
    """Print the name of each data set, often a path, in a line of its own, and a narrow table of its figures."""
    family, rows = family_named(report["family"]), report["accuracy"]
    is_quantized = any(row["after"] is not None for row in rows)
    console.print("\ndata that no model has learned")
    for row in rows:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("", min_width=max(map(len, family.figure_keys)))
        for title in TITLES if is_quantized else TITLES[:-1]:
            table.add_column(title, justify="right", min_width=FIGURE_COLUMNS)
        for figure, keys in family.figure_keys.items():
            cells = [figure, *_format_figures(row, keys)]
            table.add_row(*[*cells, *[""] * len(table.columns)][: len(table.columns)])
        console.print(escape(f"{row['data']}: {row['rows']} {family.count_title}"), style="bold", soft_wrap=True)
        console.print(FittingTable(table))
    console.print()


def _format_state(each: StageData) -> str:
    if each["done"]:
        return "done"
    return "not done" if each["seconds"] else ""


def _format_figures(row: Mapping[str, object], keys: Sequence[str]) -> list[str]:
    return [_format_figure(row[key]) for key in keys]


def _format_figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value < WIDEST else f"{value:.3e}"
    return "" if value is None else str(value)


def _format_choices(answers: ChoiceFigures) -> str:
    return f"{choices.name_of(answers)}: {answers['before']:.4f} right before, {answers['tuned']:.4f} tuned."


def _format_floor(at_least: float | None) -> str:
    return "none" if at_least is None else f"{at_least:g}"


def _format_versions(before: ModelData, after: ModelData | None) -> list[str]:
    models = {"Before": before, **({"After": after} if after else {})}
    return [f"{title}: version {model['version']}, {_format_model(model)}." for title, model in models.items()]


def _format_model(model: ModelData) -> str:
    size, unit = next((each for each in SIZES if model["bytes"] >= each[0]), SIZES[-1])
    return f"{model['precision']} for {model['target']}, {model['bytes'] / size:.1f} {unit}"

"""The report of an iteration: its stages with their times, and the accuracy before and after."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rackwright.files import write_atomic
from rackwright.iteration.families import family_named
from rackwright.iteration.family import Family, stages_of
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.work import Work

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
ReportData = Mapping[str, Any]


def build_report(
    request: IterationRequest, family: Family, work: Work, outcome: str, stage: Stage, why: str
) -> dict[str, Any]:
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
        "began": work.began_at,
        "ended": next((each["ended"] for each in reversed(stages.values()) if each["done"]), None),
        "seconds": round(sum(each["seconds"] for each in stages.values()), 1),
        "stages": {
            str(name): {"seconds": round(each["seconds"], 1), "done": each["done"]} for name, each in stages.items()
        },
        "data": {"sha256": work.data_digest, "set": list(request.changes), "may_lose": request.may_lose},
        "parent": {"path": str(start.checkpoint), "sha256": start.digest},
        "before": {
            "version": start.version,
            "bytes": start.bytes,
            "target": start.target,
            "precision": start.precision,
        },
        "after": published["came"] if published["done"] else None,
        "accuracy": family.figures(work),
    }


def write(report: ReportData, directory: Path) -> None:
    """Write *report* to *directory*, as report.json and report.md."""
    write_atomic(directory / "report.json", json.dumps(report, indent=1) + "\n")
    write_atomic(directory / "report.md", format_markdown(report))


def format_markdown(report: ReportData) -> str:
    """Return *report* in Markdown."""
    before, after, columns = report["before"], report["after"], _columns(report)
    lines = [
        f"# {report['server']} of stack {report['stack']}: {report['outcome']}",
        "",
        *([f"**{report['why']}**", ""] if report["why"] else []),
        f"{_format_versions(before, after)} Started {report['began']}, {report['seconds']} s in all stages.",
        "",
        "| stage | seconds | |",
        "| --- | ---: | --- |",
        *(f"| {name} | {each['seconds']:.1f} | {_format_state(each)} |" for name, each in report["stages"].items()),
        "",
        f"| data that no model has learned | {' | '.join(columns.values())} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(
            f"| {each['data']} | {' | '.join(_format_figure(each[key]) for key in columns)} |"
            for each in report["accuracy"]
        ),
        "",
        f"Times are sums of all attempts, on this computer. SHA-256 of the new data: {report['data']['sha256']}. "
        f"Allowed loss on other data: {report['data']['may_lose']:g}.",
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
    console.print(stages)
    if report["accuracy"]:
        accuracy = Table(box=None, pad_edge=False, header_style="bold")
        accuracy.add_column("data that no model has learned", overflow="fold")
        for title in _columns(report).values():
            accuracy.add_column(title, justify="right")
        for each in report["accuracy"]:
            accuracy.add_row(escape(each["data"]), *(_format_figure(each[key]) for key in _columns(report)))
        console.print(accuracy)
    console.print(escape(_format_versions(report["before"], report["after"])), soft_wrap=True)
    console.print(f"{report['server']}: {report['outcome']}; {escape(report['directory'])}/report.md", soft_wrap=True)


def _columns(report: ReportData) -> Mapping[str, str]:
    family = family_named(report["family"])
    return {"rows": family.counted, **family.columns}


def _format_state(each: ReportData) -> str:
    if each["done"]:
        return "done"
    return "not done" if each["seconds"] else ""


def _format_figure(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _format_versions(before: ReportData, after: ReportData | None) -> str:
    text = f"Before: version {before['version']}, {_format_model(before)}."
    return f"{text} After: version {after['version']}, {_format_model(after)}." if after else text


def _format_model(model: ReportData) -> str:
    size, unit = next((each for each in SIZES if model["bytes"] >= each[0]), SIZES[-1])
    return f"{model['precision']} for {model['target']}, {model['bytes'] / size:.1f} {unit}"

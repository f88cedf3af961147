"""The report of an iteration: its stages with their times, and the accuracy before and after."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rackwright.files import write_atomic
from rackwright.iteration import gate
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.work import Work

COMPARISONS = {Stage.GATE: "tuned.json", Stage.QUANTIZE: "made.json"}
"""File with the comparison of the new model and the served one, by the stage that writes it."""
OUTCOMES = {
    Stage.FIND: "found",
    Stage.TUNE: "tuned",
    Stage.GATE: "good enough",
    Stage.QUANTIZE: "quantized",
    Stage.PROMOTE: "promoted",
    Stage.UP: "served",
}
"""Outcome of an iteration, by its last stage."""
ReportData = Mapping[str, Any]


def build_report(request: IterationRequest, work: Work, outcome: str, stage: Stage, why: str) -> dict[str, Any]:
    """Return the report of *work* in its present state.

    Args:
        outcome: One of OUTCOMES, or refused, failed or interrupted.
        stage: The last stage.
        why: The reason why the iteration ended there; empty if it succeeded.
    """
    start, quantized = work.starting_model, work.stage(Stage.QUANTIZE)
    stages = {each: work.stage(each) for each in Stage}
    return {
        "stack": request.stack.name,
        "server": request.server,
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
        "after": quantized["came"] if quantized["done"] else None,
        "accuracy": list(_accuracy(work)),
    }


def _accuracy(work: Work) -> Iterator[dict[str, Any]]:
    comparisons: dict[Stage, list[ReportData]] = {}
    for stage, name in COMPARISONS.items():
        path = work.directory / name
        comparisons[stage] = json.loads(path.read_text()) if path.exists() else []
    for number, tuned in enumerate(comparisons[Stage.GATE]):
        quantized = comparisons[Stage.QUANTIZE][number] if comparisons[Stage.QUANTIZE] else {"after": None}
        yield {
            "data": gate.data_name(tuned, number == 0),
            "rows": tuned["rows"],
            "before": tuned["before"],
            "tuned": tuned["after"],
            "after": quantized["after"],
        }


def write(report: ReportData, directory: Path) -> None:
    """Write *report* to *directory*, as report.json and report.md."""
    write_atomic(directory / "report.json", json.dumps(report, indent=1) + "\n")
    write_atomic(directory / "report.md", format_markdown(report))


def format_markdown(report: ReportData) -> str:
    """Return *report* in Markdown."""
    before, after = report["before"], report["after"]
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
        "| data that no model has learned | rows | served before | tuned | quantised |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {each['data']} | {each['rows']} | {' | '.join(_format_share(each[key]) for key in KEYS)} |"
            for each in report["accuracy"]
        ),
        "",
        f"Times are sums of all attempts, on this computer. New rows: arrays with SHA-256 {report['data']['sha256']}. "
        f"Allowed loss on other data: {report['data']['may_lose']:g}.",
        "",
    ]
    return "\n".join(lines)


KEYS = ("before", "tuned", "after")


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
        for title in ("rows", "served before", "tuned", "quantised"):
            accuracy.add_column(title, justify="right")
        for each in report["accuracy"]:
            accuracy.add_row(escape(each["data"]), str(each["rows"]), *(_format_share(each[key]) for key in KEYS))
        console.print(accuracy)
    console.print(escape(_format_versions(report["before"], report["after"])), soft_wrap=True)
    console.print(f"{report['server']}: {report['outcome']}; {escape(report['directory'])}/report.md", soft_wrap=True)


def _format_state(each: ReportData) -> str:
    if each["done"]:
        return "done"
    return "not done" if each["seconds"] else ""


def _format_share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _format_versions(before: ReportData, after: ReportData | None) -> str:
    text = f"Before: version {before['version']}, {_format_model(before)}."
    return f"{text} After: version {after['version']}, {_format_model(after)}." if after else text


def _format_model(model: ReportData) -> str:
    return f"{model['precision']} for {model['target']}, {model['bytes'] / 1e3:.1f} KB"

"""What an iteration has come to: its stages with their times, and how right what is served was and is."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rackwright.iteration import gate
from rackwright.iteration.request import IterationRequest, Stage
from rackwright.iteration.work import Work
from rackwright.iteration.work import write as write_whole

COMPARED = {Stage.GATE: "tuned.json", Stage.QUANTIZE: "made.json"}
"""By the stage that wrote it: a model beside what is served."""
OUTCOMES = {
    Stage.FIND: "found",
    Stage.TUNE: "tuned",
    Stage.GATE: "good enough",
    Stage.QUANTIZE: "quantized",
    Stage.PROMOTE: "promoted",
    Stage.UP: "served",
}
"""By the stage that was the last."""
ReportData = Mapping[str, Any]


def make(asked: IterationRequest, work: Work, outcome: str, stage: Stage, why: str) -> dict[str, Any]:
    """Return the report of *work* as it stands.

    Args:
        outcome: One of OUTCOMES, or refused, failed or interrupted.
        stage: In which it was or is.
        why: It is no further; empty where nothing is wrong.
    """
    found, made = work.found, work.stage(Stage.QUANTIZE)
    stages = {each: work.stage(each) for each in Stage}
    return {
        "stack": asked.stack.name,
        "server": asked.server,
        "id": work.name,
        "directory": str(work.directory),
        "outcome": outcome,
        "stage": str(stage),
        "why": why,
        "began": work.began,
        "ended": next((each["ended"] for each in reversed(stages.values()) if each["done"]), None),
        "seconds": round(sum(each["seconds"] for each in stages.values()), 1),
        "stages": {
            str(name): {"seconds": round(each["seconds"], 1), "done": each["done"]} for name, each in stages.items()
        },
        "data": {"sha256": work.data_digest, "set": list(asked.changes), "may_lose": asked.may_lose},
        "parent": {"path": str(found.checkpoint), "sha256": found.digest},
        "before": {
            "version": found.version,
            "bytes": found.bytes,
            "target": found.target,
            "precision": found.precision,
        },
        "after": made["came"] if made["done"] else None,
        "accuracy": list(_accuracy(work)),
    }


def _accuracy(work: Work) -> Iterator[dict[str, Any]]:
    compared: dict[Stage, list[ReportData]] = {}
    for stage, name in COMPARED.items():
        path = work.directory / name
        compared[stage] = json.loads(path.read_text()) if path.exists() else []
    for number, tuned in enumerate(compared[Stage.GATE]):
        quantized = compared[Stage.QUANTIZE][number] if compared[Stage.QUANTIZE] else {"after": None}
        yield {
            "data": gate.name_of(tuned, number == 0),
            "rows": tuned["rows"],
            "before": tuned["before"],
            "tuned": tuned["after"],
            "after": quantized["after"],
        }


def write(told: ReportData, directory: Path) -> None:
    """Write *told* as report.json and report.md."""
    write_whole(directory / "report.json", json.dumps(told, indent=1) + "\n")
    write_whole(directory / "report.md", markdown(told))


def markdown(told: ReportData) -> str:
    before, after = told["before"], told["after"]
    lines = [
        f"# {told['server']} of stack {told['stack']}: {told['outcome']}",
        "",
        *([f"**{told['why']}**", ""] if told["why"] else []),
        f"{_versions(before, after)} Begun {told['began']}, {told['seconds']} s in all stages.",
        "",
        "| stage | seconds | |",
        "| --- | ---: | --- |",
        *(f"| {name} | {each['seconds']:.1f} | {_state(each)} |" for name, each in told["stages"].items()),
        "",
        "| rows that no model has learned | rows | served before | tuned | quantised |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {each['data']} | {each['rows']} | {' | '.join(_share(each[key]) for key in KEYS)} |"
            for each in told["accuracy"]
        ),
        "",
        f"Times are those of all attempts, on this computer. New rows: arrays of SHA-256 {told['data']['sha256']}; "
        f"on others it may lose {told['data']['may_lose']:g}.",
        "",
    ]
    return "\n".join(lines)


KEYS = ("before", "tuned", "after")


def show(told: ReportData, console: Console) -> None:
    """Print *told* for people."""
    stages = Table(box=None, pad_edge=False, header_style="bold")
    stages.add_column("stage")
    stages.add_column("seconds", justify="right")
    stages.add_column("")
    for name, each in told["stages"].items():
        stages.add_row(name, f"{each['seconds']:.1f}" if each["seconds"] else "", _state(each))
    stages.add_row("all", f"{told['seconds']:.1f}", "")
    console.print(stages)
    if told["accuracy"]:
        accuracy = Table(box=None, pad_edge=False, header_style="bold")
        accuracy.add_column("rows that no model has learned", overflow="fold")
        for title in ("rows", "served before", "tuned", "quantised"):
            accuracy.add_column(title, justify="right")
        for each in told["accuracy"]:
            accuracy.add_row(escape(each["data"]), str(each["rows"]), *(_share(each[key]) for key in KEYS))
        console.print(accuracy)
    console.print(escape(_versions(told["before"], told["after"])), soft_wrap=True)
    console.print(f"{told['server']}: {told['outcome']}; {escape(told['directory'])}/report.md", soft_wrap=True)


def _state(each: ReportData) -> str:
    if each["done"]:
        return "done"
    return "not done" if each["seconds"] else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _versions(before: ReportData, after: ReportData | None) -> str:
    said = f"Before: version {before['version']}, {_model(before)}."
    return f"{said} After: version {after['version']}, {_model(after)}." if after else said


def _model(told: ReportData) -> str:
    return f"{told['precision']} for {told['target']}, {told['bytes'] / 1e3:.1f} KB"

"""The report of a run: a table of 80 columns, JSON, and rows for docs/verified.md."""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.gpu.check import Figure, Outcome

WIDTH = 80
NAMES, RESULTS, SECONDS = 17, 9, 6
"""Widths of the first columns; the figures have the rest."""
FORMAT = 1
"""Version of the JSON."""
BEGIN, END = "<!-- gpu runs: begin -->", "<!-- gpu runs: end -->"
"""Lines of docs/verified.md around the rows that are made from runs."""
REPLACED = " runs on the GPU"
"""End of the reason of a check on a processor whose subject another check has on the GPU."""
NO_RUNS = "No run on a GPU is recorded yet."


def format_figure(name: str, value: Figure) -> str:
    """Return a figure with the unit that its name ends with: ``step_ms`` is ``step 3.2 ms``."""
    if isinstance(value, bool):
        return f"{_words(name)}: {'yes' if value else 'no'}"
    if not isinstance(value, int | float):
        return f"{_words(name)} {value}"
    for suffix, (unit, scale) in UNITS.items():
        if name.endswith(suffix):
            return f"{_words(name.removesuffix(suffix))} {_number(value * scale)}{unit}"
    return f"{_words(name)} {_number(value)}"


UNITS = {
    "_ms": (" ms", 1.0),
    "_seconds": (" s", 1.0),
    "_bytes": (" GB", 1e-9),
    "_mb": (" MB", 1.0),
    "_watts": (" W", 1.0),
    "_percent": (" %", 1.0),
    "_per_second": ("/s", 1.0),
    "_ratio": ("×", 1.0),
}


def _words(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def summary(figures: Mapping[str, Figure]) -> str:
    """Return all figures in one line."""
    return ", ".join(format_figure(name, value) for name, value in figures.items())


def table(machine: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Return the outcomes in a table of 80 columns, under a line about the machine."""
    lines = [*textwrap.wrap(describe_machine(machine), WIDTH), ""]
    lines.append(f"{'check':{NAMES}}{'result':{RESULTS}}{'s':>{SECONDS}}  figures")
    for each in outcomes:
        lines += row(each)
    counts = {
        status: sum(each.status == status for each in outcomes) for status in ("ok", "failed", "skipped", "not run")
    }
    lines += ["", ", ".join(f"{count} {status}" for status, count in counts.items()), *not_done(outcomes)]
    return "\n".join(lines)


def not_done(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the lines that name the checks without a result, by their reason, except replaced checks."""
    reasons: dict[str, list[str]] = {}
    for each in outcomes:
        if each.status in ("skipped", "not run") and not each.reason.endswith(REPLACED):
            reasons.setdefault(each.reason, []).append(each.name)
    lines = []
    for reason, names in reasons.items():
        lines += textwrap.wrap(f"not done, {reason}: {', '.join(names)}", WIDTH, subsequent_indent="  ")
    return lines


def row(outcome: Outcome) -> list[str]:
    """Return the lines of one outcome."""
    text = "; ".join(part for part in (outcome.reason, summary(outcome.figures)) if part)
    taken = f"{outcome.seconds:.1f}" if outcome.seconds else ""
    first = f"{outcome.name:{NAMES}}{outcome.status:{RESULTS}}{taken:>{SECONDS}}  "
    wrapped = textwrap.wrap(text, WIDTH - len(first)) or [""]
    return [(first if number == 0 else " " * len(first)) + line for number, line in enumerate(wrapped)]


def describe_machine(machine: Mapping[str, Any]) -> str:
    """Return GPUs, processor and versions in one line."""
    gpus = [f"{gpu['name']} ({gpu['capability']}, {gpu['memory_bytes'] / 1e9:.0f} GB)" for gpu in machine["gpus"]]
    names = dict.fromkeys(gpus)
    counted = ", ".join(f"{gpus.count(name)} × {name}" for name in names) or "no NVIDIA GPU"
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in _NOT_VERSIONS)
    return f"{counted}; {machine['processor']}, {machine['cores']} cores; {versions}"


_NOT_VERSIONS = ("gpus", "processor", "cores", "taken_at", "commit", "on_processor")


def to_json(machine: Mapping[str, Any], outcomes: Iterable[Outcome]) -> str:
    run = {"format": FORMAT, "machine": dict(machine), "checks": [asdict(each) for each in outcomes]}
    return json.dumps(run, indent=1) + "\n"


def from_json(text: str) -> tuple[dict[str, Any], list[Outcome]]:
    """Return machine and outcomes of the JSON of a run.

    Raises:
        ValueError: The text is not such JSON.
    """
    run = json.loads(text)
    if run.get("format") != FORMAT:
        raise ValueError(f"format: got {run.get('format')}; expected {FORMAT}")
    return run["machine"], [Outcome.from_json(each) for each in run["checks"]]


def verified_rows(runs: Iterable[str]) -> str:
    """Return the table of docs/verified.md for the JSON of *runs*; checks that did not run have no row."""
    lines = []
    for text in runs:
        machine, outcomes = from_json(text)
        gpus = " and ".join(dict.fromkeys(gpu["name"] for gpu in machine["gpus"])) or machine["processor"]
        for each in outcomes:
            if each.status in ("ok", "failed"):
                result = "passed" if each.status == "ok" else f"**failed**: {_cell(each.reason)}"
                figures = f"; {_cell(summary(each.figures))}" if each.figures else ""
                on = gpus if each.name not in machine.get("on_processor", ()) else machine["processor"]
                lines.append(f"| {_cell(each.what)} | {_cell(on)} | `{each.name}` of `make gpu` | {result}{figures} |")
    head = ["| what | on what | how | result |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *lines]) if lines else NO_RUNS


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def replace_rows(page: str, rows: str) -> str:
    """Return the *page* with *rows* between its two marks.

    Raises:
        ValueError: The page does not have both marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{rows}\n\n{END}{after}"


def recorded_runs(directory: Path) -> list[str]:
    """Return the JSON of all runs in *directory*, in the order of their names."""
    return [path.read_text() for path in sorted(directory.glob("*.json"))]

"""The gate of an evaluation: a new model against the report of the one that it may replace."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json, read_file

Report = Mapping[str, Any]
REPORT_BYTES = 64 << 20
"""Maximum size of a report."""
FIGURE = {"choices": "accuracy", "texts": "bits_per_byte", "answers": "accuracy"}
"""The figure of each kind of data that the gate compares; answers are the tokens that a training holds out."""


def read_report(path: Path) -> Report:
    """Return the report in the file *path*.

    Raises:
        UserError: The file is no report.
    """
    try:
        report = parse_json(read_file(path, REPORT_BYTES), REPORT_BYTES)
        if all("sha256" in each and _is_figure(each[FIGURE[each["kind"]]]) for each in report["results"]):
            return dict(report)
        problem = "a result has no figure"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        problem = f"it cannot be read: {error}"
    help = "Name a file that --out has written"
    raise UserError(Diagnostic(f"--against {path}", problem, "the report of an evaluation", help))


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def shortfalls(report: Report, earlier: Report | None, may_lose: float, at_least: float | None) -> list[str]:
    """Return a text for each figure that is too low, or that the earlier report cannot be compared with.

    Args:
        may_lose: Largest loss of accuracy, and largest share by which bits per byte may rise.
        at_least: Smallest accuracy on choices.
    """
    return list(_shortfalls(report, earlier, may_lose, at_least))


def _shortfalls(report: Report, earlier: Report | None, may_lose: float, at_least: float | None) -> Iterator[str]:
    for each in report["results"]:
        name = FIGURE[each["kind"]]
        value = each[name]
        if at_least is not None and name == "accuracy" and not value >= at_least:
            yield f"accuracy {value:.4f} on {each['data']}, of at least {at_least:g}"
        if earlier is None:
            continue
        before = _same_data(each, earlier)
        if before is None:
            yield f"{each['data']} is not in the earlier report, or has changed since then"
        elif name == "accuracy" and not value >= before[name] - may_lose:
            yield f"accuracy {value:.4f} on {each['data']}, before {before[name]:.4f}"
        elif name != "accuracy" and not value <= before[name] * (1 + may_lose):
            yield f"{value:.4f} bits per byte on {each['data']}, before {before[name]:.4f}"


def lines(report: Report, earlier: Report | None) -> Iterator[str]:
    """Yield the lines that show *report*, with the figures before."""
    for each in report["results"]:
        name = FIGURE[each["kind"]]
        before = earlier and _same_data(each, earlier)
        suffix = f" (before {before[name]:.4f})" if before else ""
        yield f"{each['data']}: {name.replace('_', ' ')} {each[name]:.4f}{suffix}, {each['rows']} {each['kind']}"
    for text in report["shortfalls"]:
        yield f"falls short: {text}"


def _same_data(result: Report, earlier: Report) -> Report | None:
    return next((each for each in earlier["results"] if each["sha256"] == result["sha256"]), None)

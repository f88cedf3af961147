"""The report of a quantisation, as JSON, Markdown and an SVG picture."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from workloads.files import write_atomic
from workloads.quantize.config import QuantizeSettings
from workloads.quantize.measure import Figures
from workloads.quantize.samples import Sets
from workloads.quantize.score import Score, loosened_limits
from workloads.quantize.search import SearchCandidate
from workloads.quantize.source import SourceModel
from workloads.quantize.targets import PrecisionChoice


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """The result of one quantisation."""

    source: SourceModel
    choice: PrecisionChoice
    settings: QuantizeSettings
    sets: Sets
    layers: Sequence[str]
    search_result: SearchCandidate
    score: Score
    shortfalls: Sequence[str]
    before: Figures
    after: Figures
    speed: float | None
    """Rows per second as a multiple of the original's; None: not judged."""
    machine: str

    @property
    def has_passed(self) -> bool:
        return not self.shortfalls

    @property
    def waived_limits(self) -> list[str]:
        """The names of the limits that were loosened by hand."""
        limits = loosened_limits(self.settings.gate)
        return [*limits, "speed"] if self.settings.publish_slower and "speed" not in limits else limits

    def gate(self) -> dict[str, Any]:
        """Return limits and results of the gate, for the lineage of the model."""
        score = self.score
        return {
            "passed": self.has_passed,
            "wanted": self.settings.gate.model_dump(),
            "loosened": self.waived_limits,
            "publish_slower": self.settings.publish_slower,
            "found": {
                "accuracy_kept": score.accuracy_kept, "agreement": score.agreement, "cosine": score.cosine,
                "accuracy": score.accuracy, "accuracy_before": score.accuracy_before, "rows": score.rows,
                "speed": self.speed,
            },
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.source.name,
            "source": dict(self.source.lineage),
            "target": self.choice.target,
            "precision": self.choice.precision,
            "precision_why": self.choice.why,
            "settings": self.settings.model_dump(),
            "rows": {name: len(getattr(self.sets, name)) for name in ("calibration", "search", "held_out")},
            "gate": self.gate(),
            "shortfalls": list(self.shortfalls),
            "layers": len(self.layers),
            "left_out": list(self.search_result.left_out),
            "costs": self.search_result.costs,
            "before": _figures(self.before),
            "after": _figures(self.after),
            "machine": self.machine,
        }


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "bytes": figures.bytes,
        "weight_bytes": figures.weight_bytes,
        "milliseconds": {str(batch): round(1000 * seconds, 4) for batch, seconds in figures.seconds.items()},
        "rows_per_second": round(figures.rows_per_second, 1),
    }


def write(report: QuantizationReport, directory: Path) -> None:
    """Write report.json, report.md and report.svg into *directory*, and replace those that exist."""
    for name, text in (
        ("report.json", json.dumps(report.to_json(), indent=1) + "\n"),
        ("report.md", markdown(report)),
        ("report.svg", svg(report)),
    ):
        write_atomic(directory / name, text)


def markdown(report: QuantizationReport) -> str:
    before, after, score = report.before, report.after, report.score
    gate = report.settings.gate

    def row(name: str, one: str, other: str, ratio: float) -> str:
        return f"| {name} | {one} | {other} | {ratio:.2f} |"

    lines = [
        f"# {report.source.name} in {report.choice.precision} for {report.choice.target}",
        "",
        "Published." if report.has_passed else f"**Not published**: {'; '.join(report.shortfalls)}.",
        f"Precision: {report.choice.why}.",
        "",
        "| on rows held out | found | at least |",
        "| --- | --- | --- |",
        f"| accuracy kept | {_share(score.accuracy_kept)} | {_share(gate.accuracy_kept, 'not required')} |",
        f"| agreement | {_share(score.agreement)} | {_share(gate.agreement)} |",
        f"| cosine | {_share(score.cosine)} | {_share(gate.cosine)} |",
        f"| speed | {_times(report.speed, 'not judged')} | {_times(gate.speed, 'not required')} |",
        "",
        f"Accuracy {_share(score.accuracy)}, before {_share(score.accuracy_before)}, on {score.rows} rows; "
        f"{len(report.sets.calibration)} rows calibrated, {len(report.sets.search)} searched, none of them judged.",
        *([f"The gate was loosened by hand: {', '.join(report.waived_limits)}."] if report.waived_limits else []),
        *([f"A slower model may be published: {reason}."] if (reason := report.settings.publish_slower) else []),
        "",
        "![report](report.svg)",
        "",
        "| | before | after | times smaller or faster |",
        "| --- | ---: | ---: | ---: |",
        row("file, KB", f"{before.bytes / 1e3:.1f}", f"{after.bytes / 1e3:.1f}", before.bytes / after.bytes),
        row("weights, KB", f"{before.weight_bytes / 1e3:.1f}", f"{after.weight_bytes / 1e3:.1f}",
            before.weight_bytes / after.weight_bytes),
        *(row(f"batch {batch}, ms", f"{1e3 * before.seconds[batch]:.3f}", f"{1e3 * after.seconds[batch]:.3f}",
              before.seconds[batch] / after.seconds[batch]) for batch in before.seconds),
        row("rows per second", f"{before.rows_per_second:.0f}", f"{after.rows_per_second:.0f}",
            after.rows_per_second / before.rows_per_second),
        "",
        f"Latencies are medians of {report.settings.repeats} turns, one thread, with ONNX Runtime on {report.machine}; "
        "they do not hold for other processors.",
        "",
    ]  # fmt: skip
    if report.search_result.costs:
        left = set(report.search_result.left_out)
        lines += [
            f"{len(left)} of {len(report.layers)} layers stay in full precision.",
            "",
            "| layer | cost alone, 1 − cosine | |",
            "| --- | ---: | --- |",
            *(f"| {layer} | {cost:.6f} | {'left out' if layer in left else ''} |"
              for layer, cost in report.search_result.costs.items()),
            "",
        ]  # fmt: skip
    return "\n".join(lines)


def _share(value: float | None, missing: str = "unknown") -> str:
    return missing if value is None else f"{value:.2%}"


def _times(value: float | None, missing: str) -> str:
    return missing if value is None else f"{value:.2f} times"


def svg(report: QuantizationReport) -> str:
    """Return a bar chart of size, memory, latency and agreement, as shares of the original."""
    before, after, score = report.before, report.after, report.score
    bars = [
        ("file", after.bytes / before.bytes),
        ("weights", after.weight_bytes / before.weight_bytes),
        *((f"latency, batch {batch}", after.seconds[batch] / before.seconds[batch]) for batch in before.seconds),
        ("accuracy kept", score.accuracy_kept),
        ("agreement", score.agreement),
        ("cosine", score.cosine),
    ]
    full, left, high = 360, 150, 26
    title = escape(f"{report.source.name}: {report.choice.precision} compared with the original (100 %)")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{high * len(bars) + 50}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-size="15">{title}</text>',
    ]
    for number, (name, share) in enumerate(bars):
        top = 40 + high * number
        width = 0 if share is None else max(0.0, min(share, 1.3)) * full
        fill = "#2a7f62" if name in ("accuracy kept", "agreement", "cosine") else "#3b6ea8"
        parts += [
            f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{name}</text>',
            f'<rect x="{left}" y="{top}" width="{width:.1f}" height="18" fill="{fill}"/>',
            f'<text x="{left + width + 6:.1f}" y="{top + 14}">{"unknown" if share is None else f"{share:.1%}"}</text>',
        ]
    bottom = 40 + high * len(bars)
    parts.append(
        f'<line x1="{left + full}" x2="{left + full}" y1="34" y2="{bottom}" stroke="#888" stroke-dasharray="4"/>'
    )
    return "\n".join([*parts, "</svg>", ""])

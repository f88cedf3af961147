"""The report of an iteration at the terminal: no number, title or name is cut, however narrow it is."""

import math
import re
from io import StringIO
from typing import Any

import pytest

from rackwright import terminal
from rackwright.iteration.report import DataFigures, ReportData, show

PATH = "/srv/hot/corpus/internal/handbook-of-the-whole-plant-2025.jsonl"
WARNING = "the gate has only compared the new model with the served one, and no floor was set"


class Screen(StringIO):
    def isatty(self) -> bool:
        return True


def report(family: str, after: float | None) -> ReportData:
    rows: list[DataFigures] = [
        {"data": name, "rows": rows, "before": 0.4011, "tuned": 0.9022, "after": after}
        for name, rows in (("new data", 12345), (PATH, 98765432))
    ]
    if family == "language-model":
        rows[0] |= {"perplexity_before": 20.0855, "perplexity_tuned": 123456.7891}
        rows[1] |= {"perplexity_before": math.exp(700), "perplexity_tuned": None}
    model: Any = {"version": "3f619cd83f9b", "bytes": 123456789, "target": "llama.cpp", "precision": "bf16"}
    return {
        "stack": "serving", "server": "chat", "family": family, "id": "a82cad9ea692", "directory": "/srv/rack/a82c",
        "outcome": "promoted", "stage": "promote", "why": "", "started_at": "2026-01-01T00:00:00+00:00",
        "ended_at": None, "seconds": 123456.7, "parent": {"path": "x", "sha256": "y"},
        "stages": {"tune": {"seconds": 123456.2, "done": True}, "gate": {"seconds": 0.5, "done": False}},
        "data": {"sha256": "a" * 64, "set": [], "may_lose": 0.01, "must_gain": 0, "at_least": None},
        "before": model, "after": {**model, "version": "4f619cd83f9b"}, "accuracy": rows,
        "choices": {"data": "exam.jsonl", "sha256": "b" * 64, "questions": 50, "before": 0.7033, "tuned": 0.7244},
        "warning": WARNING,
    }  # fmt: skip


def printed(of: ReportData, width: int, file: StringIO) -> str:
    show(of, terminal.console(file=file, width=width))
    return re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
@pytest.mark.parametrize("family", ["language-model", "image-classifier"])
@pytest.mark.parametrize("after", [0.8533, None])
def test_nothing_is_cut_on_any_terminal(width: int, family: str, after: float | None) -> None:
    text = printed(report(family, after), width, Screen())
    figures = ["20.0855", "123456.7891", "1.014e+304"] if family == "language-model" else []
    shown = [line.rstrip() for line in text.splitlines()]
    for figure in ("0.4011", "0.9022", *(["0.8533"] if after else []), "123456.2", "0.7033", *figures):
        assert re.search(rf"(?<!\S){re.escape(figure)}(?!\S)", text), figure
    assert "…" not in text and ("quantised" in text) is (after is not None)
    count = "answer tokens" if family == "language-model" else "rows"
    assert f"{PATH}: 98765432 {count}" in shown, "a path can be copied whole"
    paths = (PATH, "/srv/rack/a82c/report.md")
    assert max(len(line) for line in shown if not any(path in line for path in paths)) <= width
    sentences = " ".join(text.split())
    assert f"warning: {WARNING} Before: version 3f619cd83f9b, bf16 for llama.cpp, 123.5 MB. After:" in sentences


def test_numbers_of_all_data_sets_stand_below_each_other() -> None:
    lines = printed(report("language-model", 0.8533), 80, StringIO()).splitlines()
    first, second = (line for line in lines if line.startswith("accuracy"))
    assert first == second and re.fullmatch(r"accuracy +0\.4011 +0\.9022 +0\.8533", first)
    titles = [line for line in lines if line.split() == ["before", "tuned", "quantised"]]
    assert len(titles) == 2 and {len(line.rstrip()) for line in titles} == {len(first)}


def test_a_file_has_each_sentence_in_one_line() -> None:
    assert f"warning: {WARNING}" in printed(report("language-model", None), 40, StringIO()).splitlines()

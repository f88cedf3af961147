"""A run of the GPU checks reports each of them, whatever a check or the machine does."""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.gpu import report, runner
from tests.gpu.check import Check, CheckFailed, CheckSkipped, Outcome, Recorder, Target
from tests.support.log import ROOT

MACHINE: dict[str, Any] = {
    "gpus": [{"name": "NVIDIA H100", "capability": "9.0", "memory_bytes": 80 * 10**9}], "processor": "EPYC",
    "cores": 16, "python": "3.11.7", "on_processor": ["catalogue"],
}  # fmt: skip


def crashes(recorder: Recorder, target: Target) -> None:
    recorder.record(step_ms=3.25)
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(recorder: Recorder, target: Target) -> None:
    recorder.record(steps=7)
    if os.fork() == 0:  # a child that hangs, too
        time.sleep(600)
    time.sleep(600)


def raises(recorder: Recorder, target: Target) -> None:
    raise ValueError("no such thing")


def misses(recorder: Recorder, target: Target) -> None:
    recorder.record(accuracy=0.5)
    raise CheckFailed("accuracy is 0.5; at least 0.9")


def skips(recorder: Recorder, target: Target) -> None:
    raise CheckSkipped("no CUDA provider")


def passes(recorder: Recorder, target: Target) -> None:
    recorder.record(accuracy=0.98)


CASES = {
    function.__name__: Check(function.__name__, f"a check that {function.__name__}", function, 3, gpus=0)
    for function in (crashes, hangs, raises, misses, skips, passes)
}


def command(name: str, file: Path) -> list[str]:
    code = (
        "import sys, pathlib; from tests.gpu import runner, test_runner; "
        "runner.main(sys.argv[1:], test_runner.CASES)"
    )  # fmt: skip
    return [sys.executable, "-c", code, name, str(file)]


def outcome(name: str) -> Outcome:
    return runner.run_one(CASES[name], CASES[name].seconds, command)


@pytest.mark.parametrize(
    ("name", "status", "reason", "figures"),
    [
        ("crashes", "failed", "ended by SIGSEGV", {"step_ms": 3.25}),
        ("hangs", "failed", "stopped after 3 s", {"steps": 7}),
        ("raises", "failed", r"ValueError at test_runner.py:\d+: no such thing", {}),
        ("misses", "failed", "accuracy is 0.5; at least 0.9", {"accuracy": 0.5}),
        ("skips", "skipped", "no CUDA provider", {}),
        ("passes", "ok", "", {"accuracy": 0.98}),
    ],
)
def test_an_outcome_has_the_figures_from_before_its_end(
    name: str, status: str, reason: str, figures: dict[str, float]
) -> None:
    found = outcome(name)
    assert (found.status, found.figures) == (status, figures)
    assert re.fullmatch(reason + (r"(;.*)?" if reason else ""), found.reason), found.reason


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    runner.run_here(Check("x", "", passes, 1, packages=("no_such_package", "json")), tmp_path / "result")
    assert json.loads((tmp_path / "result").read_text())["reason"] == "no package no_such_package"


def test_a_run_skips_what_needs_a_gpu_and_says_what_found_no_time() -> None:
    hardware = Check("hardware", "", passes, 1)
    later = [Check(name, "", passes, 1, gpus=0) for name in ("one", "two")]
    found = runner.run_all([hardware, *later], 0, time.monotonic(), command)
    assert [(each.status, each.reason) for each in found] == [
        ("skipped", "no NVIDIA GPU"), ("not run", "out of time"), ("not run", "out of time"),
    ]  # fmt: skip


def test_a_check_that_the_end_of_the_run_cuts_off_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "LEAST_SECONDS", 0)
    [found] = runner.run_all([CASES["hangs"]], 0, time.monotonic() + 2, command)
    assert (found.status, found.reason) == ("not run", "out of time after 2 s")


def test_two_gpus_are_used_where_there_are_two_and_a_processor_only_without() -> None:
    two, other = Check("two", "", passes, 30, gpus=2), CASES["passes"].on_processor("cpu", "", 30)
    assert [runner.unfit(two, gpus) for gpus in (0, 1, 2, 8)] == ["no NVIDIA GPU", "1 GPU; the check needs 2", "", ""]
    assert [runner.unfit(other, gpus) for gpus in (0, 1)] == ["", "passes runs on the GPU"]


def test_each_stage_fits_the_time_of_a_run_and_the_first_has_the_important_checks() -> None:
    from tests.gpu.__main__ import SECONDS
    from tests.gpu.checks import CHECKS

    limits = {stage: sum(each.seconds for each in CHECKS if each.gpus and each.stage == stage) for stage in (1, 2)}
    limits[1] += sum(each.seconds for each in CHECKS if not each.gpus and not each.stands_for)
    assert max(limits.values()) <= SECONDS, limits
    assert [each.stage for each in CHECKS] == sorted(each.stage for each in CHECKS)
    assert {"nccl", "two-gpus", "language", "digits"} <= {each.name for each in CHECKS if each.stage == 1}


def test_the_last_lines_name_what_was_not_done() -> None:
    outcomes = [
        *OUTCOMES, Outcome("nccl", "", "skipped", "no NVIDIA GPU"), Outcome("digits-cpu", "", "not run", "out of time"),
        Outcome("probe", "", "skipped", "no NVIDIA GPU"), Outcome("x", "", "skipped", "digits runs on the GPU"),
    ]  # fmt: skip
    assert report.not_done(outcomes) == [
        "not done, no command vllm beside Python or on PATH: vllm", "not done, no NVIDIA GPU: nccl, probe",
        "not done, out of time: digits-cpu",
    ]  # fmt: skip
    assert report.table(MACHINE, outcomes).endswith("\n".join(report.not_done(outcomes)))


OUTCOMES = [
    Outcome("digits", "the digits", "ok", "", 31.2, {"accuracy": 0.9831, "step_ms": 3.21, "equal": True}),
    Outcome("tensorrt-int8", "ResNet-50 | int8", "failed", "cosine is 0.5; at least 0.98", 80.0, {"cosine": 0.5}),
    Outcome("vllm", "vLLM", "skipped", "no command vllm beside Python or on PATH"),
    Outcome("catalogue", "the catalogue", "ok", "", 4.0, {"code": "9.0 " * 30}),
]


def test_the_table_has_80_columns() -> None:
    text = report.table(MACHINE, OUTCOMES)
    assert max(map(len, text.splitlines())) <= 80
    assert "digits           ok         31.2  accuracy 0.983, step 3.21 ms, equal: yes" in text
    assert "2 ok, 1 failed, 1 skipped, 0 not run" in text
    assert "1 × NVIDIA H100 (9.0, 80 GB); EPYC, 16 cores; python 3.11.7" in text


def test_a_run_comes_back_from_its_json() -> None:
    assert report.from_json(report.to_json(MACHINE, OUTCOMES)) == (MACHINE, OUTCOMES)
    with pytest.raises(ValueError, match="format: got 0; expected 1"):
        report.from_json('{"format": 0}')


def test_the_page_gets_a_row_for_each_check_that_ran() -> None:
    rows = report.verified_rows([report.to_json(MACHINE, OUTCOMES)])
    assert rows.splitlines()[2:] == [
        "| the digits | NVIDIA H100 | `digits` of `make gpu` | passed; accuracy 0.983, step 3.21 ms, equal: yes |",
        "| ResNet-50 \\| int8 | NVIDIA H100 | `tensorrt-int8` of `make gpu` | **failed**: cosine is 0.5; at least "
        "0.98; cosine 0.5 |",
        f"| the catalogue | EPYC | `catalogue` of `make gpu` | passed; code {'9.0 ' * 30} |",
    ]
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.replace_rows(page, rows) == f"before\n{report.BEGIN}\n\n{rows}\n\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="the page has no lines"):
        report.replace_rows("nothing", rows)


def test_the_page_has_the_recorded_runs() -> None:
    page, runs = (ROOT / "docs/verified.md").read_text(), report.recorded_runs(ROOT / "tests/gpu/runs")
    assert report.replace_rows(page, report.verified_rows(runs)) == page, "run `python -m tests.gpu --verified`"


def test_each_check_is_named_once_and_fits_the_table() -> None:
    from tests.gpu.checks import CHECKS

    names = [each.name for each in CHECKS]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) < report.NAMES

"""Line 3: the guide's schedule, weights to the last bit after a stop, and processes that come and are lost."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.workloads import module, python
from workloads.training.schedule import adaptive

LOST_SECONDS, CUT_SECONDS = 20, 30
"""From the last step before a process is killed, or a network cut, to the first step after."""


@line("training", 3, part="adaptive")
def test_the_learning_rate_follows_the_guide(log: Log) -> str:
    wrong = [epoch for epoch in range(61) if adaptive(epoch) != _guide(epoch)]
    need(not wrong, f"it differs in epochs {wrong}")
    return "adaptive equals the guide's function in epochs 0 to 60"


def _guide(epoch: int) -> float:
    if epoch < 5:
        return 0.1
    return 1.0 if epoch < 20 else 0.95 ** (epoch - 20)


@line("training", 3, part="resume")
def test_a_resumed_run_has_the_same_weights_to_the_last_bit(log: Log) -> str:
    directory = log.empty_directory()
    for recipe, stop, steps in (("digits", 130, 300), ("deepseek-v3-tiny", 7, 12)):
        whole, parts = directory / recipe / "whole", directory / recipe / "parts"
        given = ("--set", f"steps={steps}", "--set", "saving.every_steps=50")
        log(f"{recipe}: as a whole, then stopped after {stop} of {steps} steps")
        module(log, recipe, "--out", str(whole), *given)
        module(log, recipe, "--out", str(parts), *given, "--stop-at", str(stop))
        module(log, recipe, "--out", str(parts), *given)
        need(_last(whole) == _last(parts), f"the weights of {recipe} differ")
    return "weights and optimizer of two models are the same to the last bit"


def _last(out: Path) -> bytes:
    newest = max((out / "checkpoints").glob("step-*"))
    [tensors] = newest.glob("*.safetensors")
    return tensors.read_bytes()


@line("training", 3, part="elastic")
def test_processes_join_and_leave_a_running_training(log: Log) -> str:
    report = _story(log, "test_elastic.py")
    need(report["recovery_seconds"] <= LOST_SECONDS, f"a lost process took {report['recovery_seconds']} s")
    return f"2, 3, 2 processes, shares {report['shares']}; lost {_cost(report)}"


@line("training", 3, part="cut")
def test_a_cut_network_costs_only_the_steps_since_the_last_commit(log: Log) -> str:
    if os.getuid() != 0:
        pytest.skip("only root makes networks")
    report = _story(log, "test_apart.py::test_a_cut_network_costs_the_steps_since_the_last_commit")
    need(report["recovery_seconds"] <= CUT_SECONDS, f"a cut network took {report['recovery_seconds']} s")
    return f"3 hosts, one cut off the switch: lost {_cost(report)}"


def _story(log: Log, name: str) -> dict[str, Any]:
    """Run this test, with a Gloo timeout beyond what it waits for, and return its report."""
    story = f"tests/workloads/training/{name}"
    done = log.run([python(log), "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", story])
    if done.returncode:
        pytest.fail(f"{story} failed: {done.stdout.strip().splitlines()[-1]}", pytrace=False)
    found = re.search(r"^\.?(\{.*recovery_seconds.*\})$", done.stdout, re.M)
    need(found, "it did not tell how it went")
    assert found
    report: dict[str, Any] = json.loads(found[1])
    return report


def _cost(report: dict[str, Any]) -> str:
    return f"{report['lost_steps']} steps of at most {report['commit']}, recovered in {report['recovery_seconds']} s"

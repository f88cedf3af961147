"""Line 3: the guide's schedule, weights to the last bit after a stop, and processes that come and are lost."""

import json
import os
import re
from pathlib import Path

from tests.accept.harness import Log, Short, check, need
from tests.accept.workloads import module, python
from workloads.training.schedule import adaptive

RECOVERY_SECONDS = 20
GLOO_SECONDS = 12
"""More than a start takes on a quiet computer: a newcomer has to be there by then, and a loss is noticed by then."""


@check("training.3[adaptive]")
def the_schedule_is_the_guides(log: Log) -> str:
    wrong = [epoch for epoch in range(61) if adaptive(epoch) != _guide(epoch)]
    need(not wrong, f"it differs in epochs {wrong}")
    return "adaptive equals the guide's function in epochs 0 to 60"


def _guide(epoch: int) -> float:
    if epoch < 5:
        return 0.1
    return 1.0 if epoch < 20 else 0.95 ** (epoch - 20)


@check("training.3[resume]")
def a_stop_changes_nothing(log: Log) -> str:
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


@check("training.3[elastic]")
def processes_come_and_are_lost(log: Log) -> str:
    story = "tests/workloads/training/test_elastic.py"
    environment = {**os.environ, "GLOO_TIMEOUT_SECONDS": str(GLOO_SECONDS)}
    done = log.run([python(log), "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", story], env=environment)
    if done.returncode:
        raise Short(f"{story} failed: {done.stdout.strip().splitlines()[-1]}")
    found = re.search(r"^\.?(\{.*recovery_seconds.*\})$", done.stdout, re.M)
    need(found, "it did not tell how it went")
    assert found
    told = json.loads(found[1])
    need(told["recovery_seconds"] <= RECOVERY_SECONDS, f"a lost process took {told['recovery_seconds']} s")
    return (
        f"2, 3, 2 processes, shares {told['shares']}; lost {told['lost_steps']} steps of at most {told['commit']}, "
        f"recovered in {told['recovery_seconds']} s; a cut network is not tried yet"
    )

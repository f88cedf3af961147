"""Line 2: numbers that are not finite, stop requests, kills and other numbers of processes lose nothing good."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.log import ROOT, Log
from tests.support.workloads import compare_runs, module, python

SEED = int(os.environ.get("ACCEPT_SEED", "0"))
TINY = (
    "--set", "steps=40", "--set", "global_batch=4", "--set", "data.sequence_length=32", "--set", "saving.every_steps=5",
    "--set", "report_every_steps=100000", "--set", "device=cpu", "--set", "sharding=full",
)  # fmt: skip


def torchrun(ranks: int) -> tuple[str, ...]:
    return ("torchrun", "--standalone", "--nproc-per-node", str(ranks))


@line("models", 2)
def test_numbers_that_are_not_finite_replace_no_checkpoint(log: Log) -> str:
    out = log.empty_directory() / "run"
    module(log, "deepseek-v3-tiny", "--out", str(out), *TINY, "--stop-at", "10", launcher=torchrun(2))
    wild = ("--set", "optimizer.learning_rate=1e6", "--set", "schedule.kind=constant")
    good = sorted(each.name for each in (out / "checkpoints").glob("step-*"))
    done = module(log, "deepseek-v3-tiny", "--out", str(out), *TINY, *wild, launcher=torchrun(2), status=None)
    need(done.returncode != 0, "a run with weights that are not finite ended well")
    message = "the last good checkpoint is that of step 10"
    need(message in done.stdout + done.stderr, f"no message names the last good checkpoint: {done.stderr[-300:]}")
    need(sorted(each.name for each in (out / "checkpoints").glob("step-*")) == good, "a checkpoint was replaced")
    return f"{', '.join(good)} stay"


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGKILL"])
@line("models", 2)
def test_a_stopped_or_killed_run_resumes_exactly(log: Log, signal_name: str) -> str:
    """At a step that chance chooses; the run never reports, and saves when it is asked to stop."""
    directory = log.empty_directory()
    module(log, "deepseek-v3-tiny", "--out", str(directory / "whole"), *TINY, launcher=torchrun(2))
    step = 5 * random.Random(f"{SEED}{signal_name}").randint(1, 5)
    _interrupt(log, directory / "parts", step, signal.Signals[signal_name])
    names = sorted(each.name for each in (directory / "parts" / "checkpoints").glob("step-*"))
    module(log, "deepseek-v3-tiny", "--out", str(directory / "parts"), *TINY, launcher=torchrun(2))
    difference = compare_runs(log, directory / "whole", directory / "parts")
    need(difference == 0, f"a weight differs by {difference}")
    return f"{signal_name} after step {step}: resumed from {names[-1]}, the same to the last bit"


def _interrupt(log: Log, out: Path, step: int, number: signal.Signals) -> None:
    """Start the run, and send the signal to all its processes once the checkpoint of *step* exists."""
    launcher = [str(Path(python(log)).with_name("torchrun")), *torchrun(2)[1:]]
    argv = [*launcher, "-m", "workloads.training", "deepseek-v3-tiny", "--out", str(out), *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, start_new_session=True)
    try:
        reached = out / "checkpoints" / f"step-{step:010}"
        eventually(lambda: reached.exists() or process.poll() is not None, f"step {step}", 900)
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        process.wait(300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("ranks", [1, 4], ids="ranks-{}".format)
@line("models", 2)
def test_a_run_resumes_on_another_number_of_ranks(log: Log, ranks: int) -> str:
    directory = log.empty_directory()
    module(log, "deepseek-v3-tiny", "--out", str(directory / "whole"), *TINY, launcher=torchrun(2))
    module(log, "deepseek-v3-tiny", "--out", str(directory / "parts"), *TINY, "--stop-at", "20", launcher=torchrun(2))
    module(log, "deepseek-v3-tiny", "--out", str(directory / "parts"), *TINY, launcher=torchrun(ranks))
    difference = compare_runs(log, directory / "whole", directory / "parts")
    need(difference < 1e-4, f"a weight differs by {difference}")
    return f"2 ranks, then {ranks}: weights differ by at most {difference:.2g}"

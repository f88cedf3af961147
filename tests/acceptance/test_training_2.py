"""Line 2: a checkpoint costs the training little, and whatever happens to it is found."""

import json

from rackwright.toolchain import workloads
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.workloads import run_tests

AIM, FLOOR = 0.15, 0.25
"""Share of torch.save's time for which the training may stand."""
TRIES = 20
TESTS = "tests/workloads/checkpoint"


@line("training", 2, part="blocked")
def test_a_checkpoint_costs_the_training_little(log: Log) -> str:
    """Our save and torch.save without fsync in turns, on the same filesystem and with the same state."""
    python = str(workloads.ensure(log).python)
    log("saving 503 MB, ten times each way")
    done = log.run([python, "-m", "benchmarks.checkpoint", str(log.empty_directory())], timeout=1800)
    need(done.returncode == 0, f"the measurement ended with {done.returncode}: {done.stderr[-200:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    need(report["bytes"] >= 400e6, f"only {report['bytes']} bytes of state")
    figure = (
        f"{report['share']:.1%} of torch.save (at most {FLOOR:.0%}, aim {AIM:.0%}): {report['blocked_ms']:.0f} of "
        f"{report['torch_ms']:.0f} ms, {report['bytes'] / 1e6:.0f} MB, median of {report['pairs']} pairs; steps take "
        f"{report['slower']:.2f} times as long while it is written"
    )
    need(report["share"] <= FLOOR, figure)
    return figure


@line("training", 2, part="killed")
def test_a_kill_at_any_moment_loses_no_committed_checkpoint(log: Log) -> str:
    """SIGKILL at seeded moments, and signals that ask."""
    done = run_tests(log, f"{TESTS}/test_kill.py", RACKWRIGHT_TRIES=str(TRIES))
    return f"{TRIES} of {TRIES} seeded kills: what was committed is there and whole, and the next one goes on; {done}"


@line("training", 2, part="found")
def test_damage_of_a_checkpoint_is_found(log: Log) -> str:
    """Flipped bytes, missing shards and half-written directories."""
    done = run_tests(log, *(f"{TESTS}/test_{name}.py" for name in ("damage", "checkpoints", "persist", "tensors")))
    return f"flipped bytes, missing shards and half-written directories are found; {done}"

"""Line 2: a checkpoint costs the training little, and whatever happens to it is found."""

import json
import os

from rackwright.toolchain import workloads
from tests.accept.harness import ROOT, Log, check, need

AIM, FLOOR = 0.15, 0.25
"""Share of torch.save's time for which the training may stand."""
TRIES = 20
TESTS = "tests/workloads/common/checkpoint"


@check("training.2[blocked]")
def a_checkpoint_costs_little(log: Log) -> str:
    """Our save and torch.save without fsync in turns, on the same filesystem and with the same state."""
    python = str(workloads.ensure(log).python)
    log("saving 503 MB, ten times each way")
    done = log.run([python, "-m", "benchmarks.checkpoint", str(log.empty_directory())], timeout=1800)
    need(done.returncode == 0, f"the measurement ended with {done.returncode}: {done.stderr[-200:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    need(told["bytes"] >= 400e6, f"only {told['bytes']} bytes of state")
    figure = (
        f"{told['share']:.1%} of torch.save (at most {FLOOR:.0%}, aim {AIM:.0%}): {told['blocked_ms']:.0f} of "
        f"{told['torch_ms']:.0f} ms, {told['bytes'] / 1e6:.0f} MB, median of {told['pairs']} pairs; steps take "
        f"{told['slower']:.2f} times as long while it is written"
    )
    need(told["share"] <= FLOOR, figure)
    return figure


@check("training.2[killed]")
def killed_at_any_moment(log: Log) -> str:
    """SIGKILL at seeded moments, and signals that ask."""
    said = tests(log, "test_kill.py", {"RACKWRIGHT_TRIES": str(TRIES)})
    return f"{TRIES} of {TRIES} seeded kills: what was committed is there and whole, and the next one goes on; {said}"


@check("training.2[found]")
def damage_is_found(log: Log) -> str:
    """Flipped bytes, missing shards and half-written directories."""
    said = tests(log, "test_damage.py test_checkpoints.py test_persist.py test_tensors.py", {})
    return f"flipped bytes, missing shards and half-written directories are found; {said}"


def tests(log: Log, files: str, environment: dict[str, str]) -> str:
    """Run these tests in the environment of the workloads, and return pytest's last line."""
    python = str(workloads.ensure(log).python)
    paths = [f"{TESTS}/{name}" for name in files.split()]
    log(f"{files} with torch")
    argv = [python, "-m", "pytest", "-q", f"--basetemp={log.empty_directory()}", *paths]
    done = log.run(argv, ROOT, {**os.environ, **environment}, timeout=1800)
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    need(done.returncode == 0 and "skipped" not in last, f"pytest says {last}")
    return last

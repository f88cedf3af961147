"""Trainings that are killed or asked to stop, with real signals."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import sample_checkpoints
from tests.workloads.checkpoint.loop import INTERVAL
from workloads.checkpoint import CheckpointRequestError, Checkpoints, load, newest
from workloads.training.stopping import StopRequest

ROOT = Path(__file__).parents[3]
TRIES = int(os.environ.get("RACKWRIGHT_TRIES", "2"))


def start(directory: Path, *sort: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "tests.workloads.checkpoint.loop", str(directory), *sort]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=ROOT, stdin=pipe, stdout=pipe, text=True, start_new_session=True)


def test_killed_at_any_moment_it_loses_what_came_after_the_last_commit_alone(tmp_path):
    """The training alone, or all of its processes at once as a power cut would; what is there is always whole."""
    reached = 0
    for seed in range(TRIES):
        rng = random.Random(seed)
        process = start(tmp_path)
        lines = [process.stdout.readline() for _ in range(rng.randint(3, 40))]
        time.sleep(rng.uniform(0, 0.05))  # any moment of a step
        (os.kill if seed % 2 else os.killpg)(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()

        assert lines[0] == f"from {reached}\n"
        whole = [line.split() for line in lines[1:] if line.endswith("\n")]
        step, committed = int(whole[-1][1]), int(whole[-1][3])
        with Checkpoints(tmp_path):  # waits for the process that still writes, where it was not killed
            found = newest(tmp_path)
        reached = found.step if found else 0
        assert reached % INTERVAL == 0
        assert committed <= reached <= step + INTERVAL
        assert reached >= step - 2 * INTERVAL, "more than one checkpoint was under way"
        if found:
            assert load(found) == sample_checkpoints.state(reached)
    assert reached > 0


def test_the_next_start_waits_for_what_a_killed_one_still_writes(tmp_path):
    process = start(tmp_path, "one")
    writer = int(process.stdout.readline())
    os.kill(writer, signal.SIGSTOP)
    process.stdin.write("save\n")
    process.stdin.flush()
    assert process.stdout.readline() == "saved\n"
    process.kill()
    process.wait()

    with pytest.raises(CheckpointRequestError):
        Checkpoints(tmp_path, lock_seconds=0)
    os.kill(writer, signal.SIGCONT)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest().step == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_the_step_it_is_at(tmp_path, number):
    """The signal goes to all processes at once, as from systemd or a terminal."""
    process = start(tmp_path)
    for _ in range(8):
        process.stdout.readline()
    os.killpg(process.pid, number)
    output = process.stdout.read().splitlines()[-1].split()

    assert process.wait() == 0
    assert output[0] == "safe" and output[1] == output[3]
    assert newest(tmp_path).step == int(output[1])


def test_without_grace_it_keeps_what_it_had(tmp_path, capfd):
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest(grace_seconds=0) as stopping, Checkpoints(tmp_path) as checkpoints:
        assert not stopping()
        checkpoints.save(1, sample_checkpoints.state(1))
        assert checkpoints.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping()
        assert checkpoints.save_within(stopping.seconds_left, 2, sample_checkpoints.state(2)) == 1
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_interrupt_from_the_terminal_ends_it_at_once():
    with pytest.raises(KeyboardInterrupt), StopRequest(grace_seconds=1):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

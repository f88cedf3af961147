"""The supervisor with `sleep` as machines: clients see all children, and no child survives the supervisor."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rackwright.errors import StepFailed
from rackwright.twin.control import Control
from rackwright.twin.layout import Layout
from rackwright.twin.vm.machine import tpm_command_line
from tests.twin.conftest import machine

FOREVER = ["sleep", "infinity"]


def start(layout: Layout) -> Control:
    control = Control(layout)
    with layout.command_lock.open("ab") as lock:
        control.ensure(lock)
    return control


def supervisor_pid(layout: Layout) -> int:
    return int(layout.supervisor_lock.read_text())


def is_running(pid: int) -> bool:
    """Return whether process *pid* runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def take_lock(lock) -> bool:
    """Take the lock if it is free, and return whether it was."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_each_client_sees_the_same_children(layout, tmp_path):
    """
    Another client sees the same processes and their notes.
    """
    pid = start(layout).run("gpu-01", FOREVER, tmp_path / "log", note="as declared")

    child = Control(layout).children()["gpu-01"]

    assert (child.pid, child.status, child.note) == (pid, None, "as declared")
    assert is_running(pid)


def test_no_child_survives_a_killed_supervisor(layout, tmp_path, eventually):
    """
    The kernel kills the machines, and the next supervisor has no children.
    """
    control = start(layout)
    pids = [control.run(name, FOREVER, tmp_path / "log") for name in ("gpu-01", "gpu-02")]

    os.kill(supervisor_pid(layout), signal.SIGKILL)

    eventually(lambda: not any(map(is_running, pids)))
    assert control.children() == {}
    assert start(layout).children() == {}


def test_machines_survive_the_command_that_started_them(layout, tmp_path, eventually):
    """
    After a killed command a later command finds the machines and ends them.
    """
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from rackwright.twin.control import Control\n"
        "from rackwright.twin.layout import Layout\n"
        "layout = Layout(Path(sys.argv[1]))\n"
        "control = Control(layout)\n"
        "control.ensure(layout.command_lock.open('ab'))\n"
        "print(control.run('gpu-01', ['sleep', 'infinity'], layout.directory / 'log'), flush=True)\n"
        "time.sleep(3600)\n"
    )
    argv = [sys.executable, "-c", program, str(layout.directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as command:
        assert command.stdout
        pid = int(command.stdout.readline())
        command.kill()

    assert is_running(pid)
    Control(layout).quit()
    eventually(lambda: not is_running(pid))


def test_the_next_command_waits_until_the_supervisor_accepts_requests(layout, eventually):
    """
    The supervisor holds the command's lock until it accepts requests, so `stop` cannot come too early.
    """
    program = (
        "import fcntl, os, subprocess, sys\n"
        "from pathlib import Path\n"
        "from rackwright.twin.control import Control\n"
        "from rackwright.twin.layout import Layout\n"
        "layout = Layout(Path(sys.argv[1]))\n"
        "lock = layout.command_lock.open('ab')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "start = subprocess.Popen\n"
        "def start_and_die(*args, **kwargs):\n"
        "    start(*args, **kwargs)\n"
        "    os._exit(9)\n"
        "subprocess.Popen = start_and_die\n"
        "Control(layout).ensure(lock)\n"
    )
    argv = [sys.executable, "-c", program, str(layout.directory)]
    assert subprocess.run(argv, cwd=Path(__file__).parents[2], check=False).returncode == 9

    with layout.command_lock.open("ab") as lock:
        eventually(lambda: take_lock(lock))
        pid = supervisor_pid(layout)
        Control(layout).quit()
    eventually(lambda: not is_running(pid))


def test_a_supervisor_waits_for_the_end_of_the_one_before(layout):
    """
    A twin that was stopped starts at once, while the process of its earlier supervisor still ends.
    """
    layout.directory.mkdir(exist_ok=True)
    with layout.supervisor_lock.open("ab") as ending:
        fcntl.flock(ending, fcntl.LOCK_EX)
        release = threading.Timer(1, fcntl.flock, (ending, fcntl.LOCK_UN))
        release.start()
        control = start(layout)
        release.join()

    assert control.children() == {}
    assert is_running(supervisor_pid(layout))


def test_two_twins_are_independent(tmp_path):
    """
    The end of one twin does not affect the other.
    """
    layouts = [Layout(tmp_path / name) for name in ("one", "two")]
    for layout in layouts:
        layout.directory.mkdir()
    one, two = (start(layout) for layout in layouts)
    one.run("gpu-01", FOREVER, tmp_path / "log")
    pid = two.run("gpu-01", FOREVER, tmp_path / "log")

    one.quit()

    assert (one.children(), two.children()["gpu-01"].pid) == ({}, pid)
    two.quit()


def test_a_killed_machine_is_reported_and_can_start_again(layout, tmp_path, eventually):
    """
    The supervisor restarts nothing by itself.
    """
    control = start(layout)
    os.kill(control.run("gpu-01", FOREVER, tmp_path / "log"), signal.SIGKILL)

    eventually(lambda: control.children()["gpu-01"].status == -signal.SIGKILL)
    control.run("gpu-01", FOREVER, tmp_path / "log")

    assert control.children()["gpu-01"].status is None


def test_a_signal_reaches_only_its_child(layout, tmp_path, eventually):
    """
    The other child continues. A child that has ended gets no signal.
    """
    control = start(layout)
    for name in ("gpu-01", "gpu-02"):
        control.run(name, FOREVER, tmp_path / "log")

    control.signal("gpu-01", signal.SIGTERM)

    eventually(lambda: control.children()["gpu-01"].status == -signal.SIGTERM)
    assert control.children()["gpu-02"].status is None
    control.signal("gpu-01", signal.SIGTERM)


def test_a_name_that_runs_is_not_started_twice(layout, tmp_path):
    """
    Two machines on the same disks would destroy them.
    """
    control = start(layout)
    control.run("gpu-01", FOREVER, tmp_path / "log")

    with pytest.raises(StepFailed, match="gpu-01 runs already"):
        control.run("gpu-01", FOREVER, tmp_path / "log")


def test_a_missing_program_is_an_error_of_the_request(layout, tmp_path):
    """
    The supervisor continues, and the error names the program.
    """
    control = start(layout)

    with pytest.raises(StepFailed, match="no-such-program"):
        control.run("gpu-01", ["no-such-program"], tmp_path / "log")
    assert control.children() == {}


def test_a_supervisor_that_does_not_answer_is_killed(layout, tmp_path, eventually):
    """
    `stop` always succeeds.
    """
    control = Control(layout, timeout_seconds=1)
    with layout.command_lock.open("ab") as lock:
        control.ensure(lock)
    pid = control.run("gpu-01", FOREVER, tmp_path / "log")
    os.kill(supervisor_pid(layout), signal.SIGSTOP)

    control.quit()

    eventually(lambda: not is_running(pid))


def test_a_tpm_ends_with_its_machine_and_with_the_supervisor(layout, tmp_path, eventually):
    """
    The TPM waits for its machine, keeps its state, and ends with the machine.
    """
    one, control = machine(1), start(layout)
    layout.tpm(one.name).mkdir(parents=True)
    pid = control.run("test-01/tpm", tpm_command_line(one, layout), tmp_path / "log")
    eventually(layout.tpm_socket(one.name).exists)
    argv = ["qemu-system-x86_64", "-M", "q35", "-nodefaults", "-display", "none", "-S"]
    argv += ["-chardev", f"socket,id=tpm,path={layout.tpm_socket(one.name)}", "-tpmdev", "emulator,id=tpm,chardev=tpm"]
    control.run("test-01", [*argv, "-device", "tpm-tis,tpmdev=tpm"], tmp_path / "log")
    eventually(lambda: any(layout.tpm(one.name).iterdir()))

    control.kill("test-01")

    eventually(lambda: not is_running(pid))
    layout.tpm_socket(one.name).unlink(missing_ok=True)
    pid = control.run("test-01/tpm", tpm_command_line(one, layout), tmp_path / "log")
    eventually(layout.tpm_socket(one.name).exists)
    os.kill(supervisor_pid(layout), signal.SIGKILL)
    eventually(lambda: not is_running(pid))

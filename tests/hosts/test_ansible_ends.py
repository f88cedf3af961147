"""No process of Ansible outlives the one that started it, however that one ends; a begun task on a host is finished."""

import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rackwright.hosts.onhost import runner
from tests.support import processes
from tests.support.simulated import SimulatedRack

ROOT = Path(__file__).parents[2]
TASKS = """
- name: Take a while
  ansible.builtin.shell: |
    touch {{ toy_path }}.begun
    until [ -e {{ toy_path }}.goes-on ]; do sleep 0.1; done
    touch {{ toy_path }}.finished
- name: Follow
  ansible.builtin.shell: "touch {{ toy_path }}.followed"
"""
PLAY = """
import pickle, sys, threading, time
from pathlib import Path
from rackwright.core.contract import PlayRole
from rackwright.hosts.ansible import Plays
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import NotDone
endpoints, root, path = pickle.loads(Path(sys.argv[1]).read_bytes())
hosts = Hosts(endpoints, b"salt")
def play():
    try:
        Plays(root, hosts, str).play(PlayRole("play", "toy", {"toy_path": path}), "one", lambda line: None)
    except NotDone:
        print("not done", flush=True)
threading.Thread(target=play, daemon=True).start()
for line in sys.stdin:
    hosts.cancel()
"""


@dataclass(frozen=True)
class Playing:
    """A process that plays a role, whose first task has begun."""

    process: "subprocess.Popen[str]"
    path: Path

    @property
    def ansible(self) -> set[str]:
        """The directories of the Ansible that plays the role."""
        variables = map(processes.variables, processes.tree(self.process.pid))
        return {each["ANSIBLE_HOME"].removesuffix("home") for each in variables if "ANSIBLE_HOME" in each}

    def await_file(self, what: str) -> None:
        """Wait for a file that a task writes."""
        await_condition(self.path.with_name(f"one.{what}").exists)


def of_ansible(directory: str) -> list[str]:
    """Return the processes of an Ansible and of its connections that still run."""
    lines = {pid: " ".join(processes.command_line(pid)) for pid in processes.tree(1)}
    return [line for pid, line in lines.items() if directory in line or directory in str(processes.variables(pid))]


def await_condition(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def playing(tmp_path: Path) -> Iterator[Playing]:
    (tmp_path / "roles/toy/tasks").mkdir(parents=True)
    (tmp_path / "roles/toy/tasks/main.yml").write_text(TASKS)
    shutil.copytree(ROOT / "playbooks", tmp_path / "playbooks")
    path = tmp_path / "one"
    with SimulatedRack({"one": None}) as rack:
        (tmp_path / "given").write_bytes(pickle.dumps((rack.endpoints, tmp_path, str(path))))
        argv, pipe = [sys.executable, "-c", PLAY, str(tmp_path / "given")], subprocess.PIPE
        process = subprocess.Popen(argv, cwd=ROOT, text=True, stdin=pipe, stdout=pipe)
        playing = Playing(process, path)
        try:
            playing.await_file("begun")
            yield playing
        finally:
            process.kill()
            process.communicate()
            path.with_name("one.goes-on").touch()
            playing.await_file("finished")  # before its directory is removed


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_player_leaves_no_ansible(playing: Playing, number: int) -> None:
    [directory] = playing.ansible
    playing.process.send_signal(number)
    playing.process.wait()

    check_end(playing, directory)


def test_a_cancelled_player_leaves_no_ansible(playing: Playing) -> None:
    [directory] = playing.ansible
    assert playing.process.stdin and playing.process.stdout
    playing.process.stdin.write("cancel\n")
    playing.process.stdin.flush()

    assert playing.process.stdout.readline() == "not done\n"
    check_end(playing, directory)


def check_end(playing: Playing, directory: str) -> None:
    """Require that Ansible ends while its task runs on the host, that the task is finished, and that none follows."""
    await_condition(lambda: not of_ansible(directory))
    below = [processes.command_line(pid) for task in runner.running_tasks() for pid in processes.tree(task)]
    assert str(playing.path) in str(below), "the next change of the host does not wait for the task"
    playing.path.with_name("one.goes-on").touch()
    playing.await_file("finished")
    assert not playing.path.with_name("one.followed").exists()

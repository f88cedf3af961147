"""Restarts: drained first, waited for over new connections, and the host's lock held again afterwards."""

import contextlib
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest

from rackwright.core.contract import Put, Reboot, Step
from rackwright.errors import StepFailed
from rackwright.hosts import pool, restart, session
from rackwright.hosts.pool import BOOT_ID, ChangeCancelled, Hosts
from rackwright.hosts.session import HostBusy
from rackwright.hosts.steps import execute
from tests.support.simulated import SimulatedRack

HOST = "gpu-01"
RESTART = Reboot("restart gpu-01")
AFTER = Put("write a note", "/etc/note", "")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(pool, "RESTART_SECONDS", 30.0)


class Machine:
    """A simulated host that goes down at a restart, and comes up as another start when a test says so."""

    def __init__(self, rack: SimulatedRack, hosts: Hosts) -> None:
        self.rack, self.hosts, self.messages = rack, hosts, list[str]()
        self.on_message: Callable[[str], None] = lambda text: None
        """Function that gets each message."""
        self.drained: str | None = None
        """How draining fails."""
        rack[HOST].set_texts({BOOT_ID: "first\n"})
        rack[HOST].on_step = self._do

    def _do(self, step: dict[str, object]) -> None:
        if step["text"] == "drain" and self.drained:
            raise RuntimeError(self.drained)
        if step["kind"] == "reboot":
            self.go_down()

    def go_down(self) -> None:
        self.rack.switch_off(HOST)

    def come_up(self) -> None:
        self.rack[HOST].set_texts({BOOT_ID: "second\n"})
        self.rack.switch_on(HOST)

    def do(self, *steps: Step) -> None:
        def say(text: str) -> None:
            self.messages.append(text)
            self.on_message(text)

        with self.hosts.lease(HOST, "gpu-01/base", say):
            execute(self.hosts, HOST, "gpu-01/base", steps, say)

    @property
    def done(self) -> list[tuple[str, str]]:
        return [(step["kind"], step["text"]) for step in self.rack[HOST].steps]


@pytest.fixture
def machine(rack: SimulatedRack, hosts: Hosts) -> Machine:
    return Machine(rack, hosts)


def once(machine: Machine, part: str, do: Callable[[], object]) -> None:
    """Call *do* at the first message that contains *part*."""
    left = [do]
    machine.on_message = lambda text: left.pop()() and None if part in text and left else None


def test_it_is_drained_then_restarted_then_waited_for_and_then_it_goes_on(machine):
    once(machine, "Connection refused", machine.come_up)

    machine.do(RESTART, AFTER)

    assert machine.done == [
        ("run", "drain"),
        ("reboot", "restart gpu-01"),
        ("run", "wait for its services"),
        ("put", "write a note"),
    ]
    assert machine.messages[0] == "restart gpu-01"
    assert machine.messages[1].startswith("restart gpu-01: waiting for 0 s for it to come back: Connection refused")
    assert machine.hosts.unreachable() == frozenset()


def test_what_is_not_drained_is_not_restarted(machine):
    machine.drained = "`sh` ended with 3"

    with pytest.raises(StepFailed) as failure:
        machine.do(RESTART, AFTER)

    assert machine.done == [("run", "drain")]
    assert "step 1 of 2 (restart gpu-01) failed on gpu-01: `sh` ended with 3" in str(failure.value)
    assert "not begun: write a note" in str(failure.value)


def test_a_host_that_answers_as_the_same_start_is_not_back(machine):
    """
    sshd answers for a while after the order was given.
    """
    machine.go_down = lambda: None
    once(machine, "the restart has not begun", lambda: (machine.rack.switch_off(HOST), machine.come_up()))

    machine.do(RESTART, AFTER)

    assert machine.done[-1] == ("put", "write a note")


def test_a_host_that_does_not_come_back_is_unreachable_after_a_time(machine, monkeypatch):
    monkeypatch.setattr(pool, "RESTART_SECONDS", 0.05)

    with pytest.raises(
        StepFailed, match=r"on gpu-01: the host did not come back within 0 s of its restart: Connection refused"
    ) as failure:
        machine.do(RESTART, AFTER)

    assert "not begun: write a note" in str(failure.value)
    assert machine.hosts.unreachable() == {HOST}


def test_a_cancellation_ends_the_wait(machine):
    once(machine, "Connection refused", machine.hosts.cancel)

    with pytest.raises(ChangeCancelled):
        machine.do(RESTART)


def test_a_connection_that_drops_right_after_the_restart_is_made_again(machine, monkeypatch):
    """
    paramiko raises EOFError for it, which is no OSError.
    """
    send, dropped = paramiko.Channel.send, list[bool]()

    def drop(channel: paramiko.Channel, data: bytes) -> int:
        if ("reboot", "restart gpu-01") in machine.done and b"patience_seconds" in data and not dropped:
            dropped.append(True)
            channel.get_transport().close()
            raise EOFError
        return send(channel, data)

    monkeypatch.setattr(paramiko.Channel, "send", drop)
    once(machine, "Connection refused", machine.come_up)

    machine.do(RESTART, AFTER)

    assert dropped and machine.done[-1] == ("put", "write a note")


def test_a_caller_waits_until_the_host_is_back(machine):
    asked, found = threading.Event(), list[float]()

    def ask() -> None:
        asked.set()
        found.append(machine.hosts.facts(HOST).taken_at)

    asking = threading.Thread(target=ask)

    def others_ask() -> None:
        asking.start()
        asked.wait(30)
        machine.come_up()

    once(machine, "Connection refused", others_ask)
    machine.do(RESTART)
    asking.join(30)

    assert found == [1.0]


def test_the_lock_is_ours_again_and_free_when_we_are_done(machine, rack, monkeypatch):
    """
    The kernel that kept it is gone: it is taken anew, and whoever comes next can take it.
    """
    once(machine, "Connection refused", machine.come_up)
    holders = []

    def look(step: dict[str, object]) -> None:
        machine._do(step)
        if step["kind"] == "put":
            monkeypatch.setattr(session, "PATIENCE_SECONDS", 0.0)
            with pytest.raises(HostBusy) as busy, other.lease(HOST, "gpu-01/other", lambda text: None):
                pass
            monkeypatch.undo()
            holders.append(busy.value.diagnostic.problem)

    with contextlib.closing(Hosts(rack.endpoints, b"salt")) as other:
        rack[HOST].on_step = look
        machine.do(RESTART, AFTER)
        with other.lease(HOST, "gpu-01/other", lambda text: None):
            pass

    assert [holder for holder in holders if "for gpu-01/base by" in holder]


# --- what runs on the host


@pytest.fixture
def drain(tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
    """Return a function that makes a directory of scripts by name, drains by it, and returns how that ended."""

    def drain(scripts: dict[str, str], executable: bool = True) -> tuple[int, list[str]]:
        directory = tmp_path / "drain.d"
        directory.mkdir()
        for name, text in scripts.items():
            (directory / name).write_text(f"#!/bin/sh\n{text}\n")
            (directory / name).chmod(0o755 if executable else 0o644)
        argv = ["sh", "-c", restart._DRAIN, "drain", str(directory)]
        ended = subprocess.run(argv, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
        return ended.returncode, ended.stdout.replace(str(directory), "DIR").splitlines()

    return drain


def test_scripts_run_in_the_order_of_their_names(drain):
    assert drain({"20-b": "echo two", "10-a.sh": "echo one", "3": "echo three"}) == (
        0, ["10-a.sh", "one", "20-b", "two", "3", "three"],
    )  # fmt: skip


def test_none_after_one_that_fails(drain):
    assert drain({"10": "exit 7", "20": "echo two"}) == (7, ["10", "DIR/10 ended with 7"])


def test_one_that_cannot_be_run_is_no_drained_host(drain):
    """
    Somebody meant it to end something.
    """
    assert drain({"10": "echo one"}, executable=False) == (1, ["DIR/10 is not executable"])


def test_a_host_without_any_is_drained(drain, tmp_path):
    assert drain({}) == (0, [])
    argv = ["sh", "-c", restart._DRAIN, "drain", str(tmp_path / "none")]
    assert subprocess.run(argv, check=False).returncode == 0

"""The timer that undoes a change, in a real systemd."""

import json
import time

import pytest

from rackwright.audit.undeclared import armed
from rackwright.core.contract import Command
from rackwright.facts.facts import Facts
from rackwright.facts.probe import trials
from rackwright.hosts.onhost.runner import RECORDS
from rackwright.kinds.shared.guard import guard_change
from tests.support import systemd_machine
from tests.support.systemd_machine import SystemdMachine

pytestmark = pytest.mark.skipif(systemd_machine.lacks() != "", reason=systemd_machine.lacks())
TEXT = "/etc/guarded"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with SystemdMachine(tmp_path_factory.mktemp("systemd")) as machine:
        yield machine


def steps(seconds: int) -> list[tuple[str, ...]]:
    return [step.argv for step in guard_change("x", [TEXT], "", [], seconds) if isinstance(step, Command)]


def armed_at(machine: SystemdMachine, seconds: int) -> float:
    machine.run(f"echo before > {TEXT}")
    machine.run(steps(seconds)[0])
    machine.run(f"echo after > {TEXT}")
    return time.monotonic()


def deadline(machine: SystemdMachine) -> str:
    return machine.run("systemctl show --property=NextElapseUSecMonotonic --value undo-rackwright-x.timer").strip()


def await_undo(machine: SystemdMachine, seconds: float, command: str = "true") -> float:
    """Run *command* again and again until the earlier text is back, and return when that was."""
    until = time.monotonic() + seconds
    while machine.run(f"{command}; cat {TEXT}").strip() != "before":
        assert time.monotonic() < until, "the earlier text is not back"
        time.sleep(0.2)
    return time.monotonic()


def leftovers(machine: SystemdMachine) -> str:
    return machine.run("find /etc/systemd /run/systemd -name 'undo-rackwright-*'").strip()


def audit(machine: SystemdMachine) -> dict[str, bool]:
    """Return the changes on trial, and whether the audit knows their units as armed by rackwright."""
    facts = Facts({"trials": trials.trials(machine.root)})
    return {name: armed.is_intact(name, trial) for name, trial in facts.trials.items() if trial.state in armed.PENDING}


def test_the_deadline_stays_when_systemd_reads_its_units_again(machine):
    armed_at(machine, 300)
    first = deadline(machine)
    for _ in range(5):
        machine.run("systemctl daemon-reload")
    machine.run("systemctl daemon-reexec")

    assert deadline(machine) == first not in ("", "infinity")
    assert audit(machine) == {"x": True}


def test_the_earlier_text_comes_back_at_the_deadline_though_systemd_reads_its_units_again(machine):
    began = armed_at(machine, 6)

    assert await_undo(machine, 30, "systemctl daemon-reload") - began > 3
    machine.run("while [ -e /var/lib/rackwright/undo/x/undoing ]; do sleep 0.1; done")
    assert leftovers(machine) == "" and audit(machine) == {}


def test_a_login_in_time_leaves_nothing_of_the_timer(machine):
    armed_at(machine, 300)
    for path in armed.armed_paths(Facts({"trials": trials.trials(machine.root)})):
        machine.run(f"test -e {path}")
    found = leftovers(machine).splitlines()
    machine.run(steps(300)[1])

    assert len(found) == 4, found
    assert leftovers(machine) == "" and audit(machine) == {}
    assert machine.run(f"cat {TEXT}").strip() == "after"
    assert machine.run("ls /var/lib/rackwright/undo").strip() == ""


def test_a_restart_of_the_host_brings_the_undo_forward_and_never_postpones_it(machine):
    armed_at(machine, 100_000)
    machine.restart()

    timers = machine.run("systemctl show --property=TimersMonotonic --value undo-rackwright-x.timer")
    assert "OnStartupUSec=1min " in timers, timers
    assert audit(machine) == {"x": True}
    machine.run("systemctl start undo-rackwright-x.service")
    assert machine.run(f"cat {TEXT}").strip() == "before" and leftovers(machine) == ""


def test_the_next_attempt_begins_from_the_earlier_files(machine):
    armed_at(machine, 300)
    machine.run(steps(300)[0])

    assert machine.run(f"cat {TEXT}").strip() == "before"
    machine.run("systemctl start undo-rackwright-x.service")
    assert leftovers(machine) == ""


def test_the_record_of_a_step_is_known_by_its_command(machine):
    record = json.dumps({"argv": ["sh", "-c", "sleep 100\n# a  b", "x y"]})
    machine.run(
        ["sh", "-c", 'mkdir -p "${1%/*}"; printf %s "$2" > "$1"', "sh", f"{RECORDS}/rackwright-step-a-1.json", record]
    )
    known = "from rackwright.facts.probe import trials; print(trials.step_units(''))"

    def start(script: str) -> str:
        machine.run(["systemd-run", "--unit=rackwright-step-a-1", "--collect", "--", "sh", "-c", script, "x y"])
        output = machine.run([str(systemd_machine.ROOT / ".venv/bin/python"), "-c", known])
        machine.run("systemctl stop rackwright-step-a-1.service")
        return output.strip()

    assert start("sleep 100\n# a  b") == "{'rackwright-step-a-1.service': True}"
    assert start("sleep 100\n# a b") == "{'rackwright-step-a-1.service': False}"

"""A training run on two containers with real SSH and Horovod: start, stop, end and removal.

`make accept ONLY=training.1` checks that a run recovers after one of its processes is killed.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.hosts.steps import execute
from rackwright.schema.fleet import Fleet
from rackwright.schema.secret import derive_value
from rackwright.stack import Stack, declare
from rackwright.status import runs
from rackwright.toolchain import workloads
from rackwright.twin.fleet import build_twin
from tests.twin.test_network import ROOT, ROOT_ONLY, SALT, Rack, fleet, nic

pytestmark = [pytest.mark.twin, ROOT_ONLY]
LAUNCHER, OTHER, STRANGER = "alpha", "beta", "gamma"
OUT = "/srv/warm/runs/digits"
ETC = "/etc/rackwright/runs/digits"
LOG = "/var/log/rackwright/runs/digits/log"
STEPS = 100_000
"""More steps than the run reaches during the tests."""


class TrainingRack(Rack):
    """Three hosts, with a training run on two of them."""

    def __init__(self, directory: Path) -> None:
        hosts = {
            name: {
                "nics": [nic(number, 0, addresses=[f"10.30.0.1{number}/24"])],
                "network": {},
                "tiers": {"warm": {"provided": True, "mount": "/srv/warm"}},
            }
            for number, name in enumerate((LAUNCHER, OTHER, STRANGER), start=1)
        }
        super().__init__(directory, fleet(hosts), {*hosts})
        of_hosts, lent = Fleet.model_validate(self.raw), workloads.training_directory()
        self.twin = build_twin("training", directory, of_hosts, self.containers, workloads=lent)
        self.repository = Repository.load(ROOT, SALT, {"training_key": derive_value("training_key")})
        self.runs: dict[str, Any] = {}

    @property
    def stack(self) -> Stack:
        used = {"uses": "rack.yaml", "runs": self.runs} if self.runs else {}
        of_runs = Fleet.model_validate({**self.raw, **used})
        return Stack("training", ROOT, of_runs, {}, self.repository, SALT, "training", self.containers)

    def train(self, steps: int, **more: Any) -> None:
        """Declare a run and apply it; return after its first step."""
        self.runs = {
            "digits": {
                "recipe": "digits",
                "hosts": (LAUNCHER, OTHER),
                "checkpoints": {"tier": "warm"},
                "set": {"steps": steps, "report_every_steps": 5, "saving": {"every_steps": 20}},
                **more,
            }
        }
        for host in (OTHER, LAUNCHER):
            self.up(host, "digits")

    def remove(self) -> None:
        for declared in reversed(declare(self.stack)):
            host = declared.spec.host
            with self.hosts.lease(host, declared.name, print):
                facts = self.hosts.facts(host, fresh=True)
                plan = declared.kind.removal(declared.spec, facts, self.repository, True)
                execute(self.hosts, host, declared.name, plan.steps, print)

    @property
    def report(self) -> runs.RunReport:
        return runs.observe(self.hosts, self.stack, "digits")

    def step(self, host: str) -> int:
        """Return the last step that *host* has logged in its own file."""
        line = self.run(host, f"tail -qn 1 {OUT}/metrics*.jsonl")
        return int(json.loads(line).get("step", 0))

    def received_bytes(self, host: str) -> int:
        return int(self.run(host, "cat /sys/class/net/fabric0/statistics/rx_bytes"))

    def run_failing(self, host: str, command: str) -> str:
        """Return the output of *command*, which has to fail, as root on *host*."""
        argv = self.twin.ssh(host, "sudo -n sh -s")
        done = subprocess.run(argv, input=command, capture_output=True, text=True, timeout=120)
        assert done.returncode, done.stdout
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingRack]:
    workloads.ensure(print)
    rack = TrainingRack(tmp_path_factory.mktemp("training"))
    rack.start()
    for host in (LAUNCHER, OTHER, STRANGER):
        rack.up(host)
    rack.train(STEPS)
    yield rack
    rack.stop()


def training_processes(rack: TrainingRack, host: str) -> list[str]:
    """Return the process ids of the training on *host*."""
    pids = rack.run(host, "pgrep -u run-digits -f '^[^ ]*python -m workloads.training /' || true")
    return pids.split()


def test_a_run_trains_on_both_hosts_over_the_fabric(rack: TrainingRack, eventually: Callable[..., None]) -> None:
    """
    The metrics of rank 1 are in a file on its own host, and no further step is planned.
    """
    step, received_bytes = rack.step(OTHER), rack.received_bytes(OTHER)
    assert step >= 1
    assert len(training_processes(rack, LAUNCHER)) == len(training_processes(rack, OTHER)) == 1

    eventually(lambda: rack.step(OTHER) > step, seconds=300)

    assert rack.received_bytes(OTHER) > received_bytes
    assert rack.report.exit_status == 0
    assert [rack.observe(host, "digits")[1].steps for host in (LAUNCHER, OTHER)] == [(), ()]


def test_the_provenance_is_next_to_the_metrics(rack: TrainingRack) -> None:
    provenance = json.loads(rack.run(LAUNCHER, f"cat {OUT}/provenance.json"))

    assert {*provenance} == {"fleet", "declaration", "lock", "hosts", "code"}
    assert {*provenance["hosts"]} == {LAUNCHER, OTHER}
    assert len({*provenance["hosts"].values()}) == 2


def test_the_account_of_a_run_cannot_become_root_or_log_in_elsewhere(rack: TrainingRack) -> None:
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes -o ConnectTimeout=5"
    own = f"runuser -u run-digits -- ssh {options} -i {ETC}/key"

    assert "password is required" in rack.run_failing(OTHER, "runuser -u run-digits -- sudo -n true")
    assert "no new privileges" in rack.run_failing(
        OTHER, "systemd-run --quiet --pipe --wait -p User=run-digits -p NoNewPrivileges=yes sudo -n true"
    )
    assert "Permission denied" in rack.run_failing(LAUNCHER, f"{own} run-digits@10.30.0.12 true")
    assert "Permission denied" in rack.run_failing(LAUNCHER, f"{own} run-digits@10.30.0.13 true")
    assert "refused" in rack.run_failing(LAUNCHER, f"{own} -p 7022 run-digits@10.30.0.13 true")
    assert "no such user" in rack.run_failing(STRANGER, "id run-digits")
    # the run's own login works, so the failures above have the expected cause
    assert rack.run(LAUNCHER, "runuser -u run-digits -- /opt/rackwright/runs/digits/bin/ssh 10.30.0.12 id -un") == (
        "run-digits"
    )


def test_the_key_of_a_run_is_refused_from_other_hosts(rack: TrainingRack) -> None:
    """
    A stolen key is useless: the sshd accepts only the launcher's address.
    """
    stolen = rack.run(LAUNCHER, f"cat {ETC}/key")
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o BatchMode=yes"
    put = f"umask 077; cat > /root/stolen <<'END'\n{stolen}\nEND\n"

    output = rack.run_failing(STRANGER, f"{put}ssh {options} -i /root/stolen -p 7022 run-digits@10.30.0.12 true")

    assert "Permission denied" in output
    rack.run(STRANGER, "rm /root/stolen")


def test_no_secret_is_on_a_command_line_of_a_run(rack: TrainingRack) -> None:
    key = rack.run(LAUNCHER, f"cat {ETC}/key").splitlines()
    for host in (LAUNCHER, OTHER):
        command_lines = rack.run(host, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '")
        assert "workloads.training" in command_lines
        assert derive_value("training_key") not in command_lines
        assert not [line for line in key[1:-1] if line in command_lines]


def test_a_stopped_run_saves_a_checkpoint_and_is_a_difference(
    rack: TrainingRack, eventually: Callable[..., None]
) -> None:
    attempt_began = rack.step(OTHER)
    eventually(lambda: rack.step(OTHER) > attempt_began, seconds=600)
    runs.stop(rack.hosts, rack.stack, "digits", print)

    report = rack.report
    assert report.outcome == "stopped"
    assert report.launcher["checkpoint"] >= report.launcher["step"], "it saves the step in which it stops"
    assert rack.observe(LAUNCHER, "digits")[0] == {"run:digits.outcome"}
    assert training_processes(rack, LAUNCHER) == training_processes(rack, OTHER) == []


def test_a_finished_run_stops_its_sshd(rack: TrainingRack, eventually: Callable[..., None]) -> None:
    """
    With fewer declared steps the run resumes from its checkpoint. A finished run refuses another configuration.
    """
    saved = rack.report.launcher["step"]
    rack.train(saved + 30)

    eventually(lambda: rack.report.outcome == "finished", seconds=900)

    assert rack.report.launcher["checkpoint"] == saved + 30
    assert [rack.observe(host, "digits")[1].steps for host in (LAUNCHER, OTHER)] == [(), ()]
    eventually(lambda: not rack.run(OTHER, "pgrep -u run-digits || true"), seconds=60)
    rack.runs["digits"]["set"]["steps"] = STEPS
    for host in (LAUNCHER, OTHER):
        assert [refusal.problem for refusal in rack.observe(host, "digits")[1].refusals] == [
            "the run has finished, and its declared configuration has changed"
        ]


def test_the_removal_of_a_run_keeps_only_its_checkpoints(rack: TrainingRack) -> None:
    rack.remove()

    for host in (LAUNCHER, OTHER):
        facts: Facts = rack.hosts.facts(host, fresh=True)
        assert facts.user("run-digits") is None
        assert facts.owner("run-digits") is None
        assert rack.run(host, "find / -xdev -path '*/runs/digits/*' -not -path '/srv/*' 2>/dev/null || true") == ""
    assert "step-" in rack.run(LAUNCHER, f"ls {OUT}/checkpoints")
    assert rack.run(LAUNCHER, f"stat -c %U {OUT}/checkpoints") == "root"

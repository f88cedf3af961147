"""Steps on a real system with systemd and sudo: a step survives its controller, and a failed one leaves no unit.

`make accept ONLY=hardening.11` checks that a drive that was written to after the plan stops its step.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.core.contract import Command, Put, Remove, Step
from rackwright.errors import StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.hosts.session import HostBusy
from rackwright.hosts.steps import execute
from rackwright.schema.ssh import Endpoint, Login
from rackwright.twin import Container, Twin, VirtualNic

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers"),
]

ROOT = Path(__file__).parents[2]
HOST, ID = "gpu-01", "gpu-01/hot"

CONTROLLER = """
import sys
from tests.hosts.test_twin import HOST, ID, WAIT, endpoint
from pathlib import Path
from rackwright.hosts.pool import Hosts
from rackwright.hosts.steps import execute
hosts = Hosts({HOST: endpoint(Path(sys.argv[1]))}, b"salt")
with hosts.lease(HOST, ID, print):
    execute(hosts, HOST, ID, [WAIT], lambda text: print(text, flush=True))
"""
WAIT = Command(
    "wait for the word",
    ("sh", "-c", "while [ ! -e /run/word ]; do echo not yet; sleep 1; done; echo done > /run/finished"),
)


def endpoint(twin: Path) -> Endpoint:
    found = json.loads((twin / "endpoints.json").read_text())["hosts"][HOST]
    login = Login(name="twin", user=found["user"], key=found["key"])
    return Endpoint(HOST, found["address"], found["port"], (login,), twin / "known_hosts")


@pytest.fixture(scope="module")
def twin() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rackwright-") as directory:
        nics = (VirtualNic("rack0", "52:54:00:77:00:01", 1500),)
        twin = Twin(Path(directory, "twin"), [Container(HOST, "CH-77", nics)])
        twin.start(print)
        try:
            yield Path(directory, "twin")
        finally:
            twin.reset(print)


@pytest.fixture
def hosts(twin: Path) -> Iterator[Hosts]:
    hosts = Hosts({HOST: endpoint(twin)}, b"salt")
    yield hosts
    hosts.connection(HOST).run(("rm", "-f", "/run/word", "/run/finished"))
    hosts.close()


@pytest.fixture
def orphan(twin: Path, hosts: Hosts) -> None:
    """A step whose controller was killed while it ran."""
    controller = subprocess.Popen(
        [sys.executable, "-c", CONTROLLER, str(twin)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert controller.stdout
    lines = iter(controller.stdout.readline, "")
    assert next(line for line in lines if "not yet" in line).startswith("wait for the word: running for ")
    controller.kill()
    controller.wait()
    controller.stdout.close()


@pytest.mark.usefixtures("orphan")
def test_a_step_survives_its_controller_and_the_next_run_waits_for_its_end(hosts):
    messages = []

    def say(text: str) -> None:
        messages.append(text)
        if "earlier run" in text:
            hosts.connection(HOST).run(("touch", "/run/word"))

    with hosts.lease(HOST, ID, say):
        finished = hosts.connection(HOST).run(("cat", "/run/finished"))

    assert finished.stdout == b"done\n"
    assert messages[-1] == f"waiting for a step of an earlier run: {ID}: {WAIT.text}"


@pytest.mark.usefixtures("orphan")
def test_no_other_step_runs_on_a_host_during_an_orphaned_step(hosts):
    try:
        with pytest.raises(
            HostBusy, match=f"^gpu-01: a step of another resource runs on the host \\({ID}: {WAIT.text}\\)"
        ):
            hosts.lease(HOST, "gpu-01/warm", print).__enter__()
    finally:
        hosts.connection(HOST).run(("touch", "/run/word"))
        with hosts.lease(HOST, ID, print):
            pass


def test_a_plan_runs_through_sudo_and_systemd_with_its_arguments_unchanged(hosts):
    path = "/etc/rackwright-test/of a plan"
    steps: list[Step] = [
        Put("write", path, "${HOME} %n\n", mode=0o600),
        Command("append", ("sh", "-c", f"echo '${{HOME}} $$ %n' >> '{path}'")),
        Put("write the other", "/etc/rackwright-test/other", "plain\n"),
    ]

    with hosts.lease(HOST, ID, print):
        execute(hosts, HOST, ID, steps, print)
        written = hosts.connection(HOST).run(("cat", path, "/etc/rackwright-test/other"))
        seen = hosts.connection(HOST).run(("stat", "-c", "%U:%G %a", path))
        execute(hosts, HOST, ID, [Remove("remove", path)], print)

    assert written.stdout.decode() == "${HOME} %n\n${HOME} $$ %n\nplain\n"
    assert seen.stdout == b"root:root 600\n"
    assert hosts.connection(HOST).run(("test", "-e", path)).status == 1


# systemd 252 may take a process that fails at once for one that could not be executed, and then its status is 1
FAILING = ("sh", "-c", "echo so it is >&2; sleep 0.3; exit 3")


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Command("fail", FAILING), '`sh` ended with 3, and printed "so it is"'),
        (Command("miss", ("nosuchcommand",)), "`nosuchcommand` ended with 1, and printed .*Failed to find executable"),
        (Command("hang", ("sleep", "1000"), timeout_seconds=2), "`sleep` was stopped after "),
    ],
)
def test_a_failed_unit_is_a_failed_step_and_leaves_none_behind(hosts, step, reason):
    for _ in range(2):
        with pytest.raises(StepFailed, match=reason), hosts.lease(HOST, ID, print):
            execute(hosts, HOST, ID, [step], print)

    units = hosts.connection(HOST).run(("systemctl", "list-units", "--all", "--no-legend", "rackwright-step-*"))
    assert units.stdout == b""

"""A failure on one host is printed while another host is still at work, and a stop ends with a summary."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.pulumi.conftest import ROOT
from tests.pulumi.test_plugin import FLEET, SETTINGS, OneHost
from tests.support.recorded_hosts import HOST, blank
from tests.support.signals import as_in_a_terminal
from tests.support.simulated import SimulatedRack

pytestmark = pytest.mark.pulumi
OTHER = "gpu-02"
COMMAND = [sys.executable, "-m", "tests.pulumi.command", "up", "lab", "--yes"]
REASON = r"gpu-01/hot: failed: step \d+ of \d+ \(.+\) failed on gpu-01: the drive is on fire"


def of_other(text: str) -> str:
    """Return *text* about HOST as it is about OTHER."""
    return text.replace(HOST, OTHER).replace("RW01-", "RW02-").replace("RW-GPU-01", "RW-GPU-02")


def variables(project: OneHost) -> dict[str, str]:
    return {**os.environ, **project.environment, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[OneHost]:
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "rackwright").symlink_to(ROOT / "rackwright")
    both = {HOST: blank(), OTHER: json.loads(of_other(json.dumps(blank())))}
    let_go = threading.Event()
    with SimulatedRack(both) as rack:
        fleets = [
            FLEET.format(user=rack.user, key=rack.key, address=rack[name].address, port=rack[name].port)
            for name in both
        ]
        hosts = of_other(fleets[1]).partition("hosts:\n")[2]
        (tmp_path / "stacks/fleet.yaml").write_text(fleets[0] + hosts)
        (tmp_path / "stacks/Pulumi.lab.yaml").write_text(SETTINGS)
        shutil.copy(rack.known_hosts, tmp_path / "stacks/fleet.known_hosts")
        made = OneHost(tmp_path, environment, rack, rack[OTHER])
        assert made.pulumi("stack", "init", "lab").status == 0
        begun = threading.Event()

        def fail(step: dict[str, Any]) -> None:
            begun.wait(120)
            raise RuntimeError("the drive is on fire")

        def hang(step: dict[str, Any]) -> None:
            begun.set()
            let_go.wait(240)

        rack[HOST].on_step, rack[OTHER].on_step = fail, hang
        yield made
        let_go.set()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_reason_comes_at_once_and_a_stop_has_a_summary(project, number, status) -> None:
    log = project.directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            COMMAND, cwd=project.directory, env=variables(project), stdin=subprocess.DEVNULL, stdout=output,
            stderr=output, preexec_fn=as_in_a_terminal,  # noqa: PLW1509
        )  # fmt: skip
    while not re.search(REASON, log.read_text()):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    assert "hot** creating failed" not in log.read_text() and project.host.steps
    process.send_signal(number)

    assert process.wait(120) == status, log.read_text()
    check_summary(log.read_text())


def test_a_terminal_shows_the_reason_and_the_summary(project) -> None:
    child = pexpect.spawn(
        COMMAND[0], COMMAND[1:], cwd=str(project.directory), env=variables(project), dimensions=(24, 200),
        timeout=120, encoding="utf-8", preexec_fn=as_in_a_terminal,
    )  # fmt: skip
    child.expect(REASON)
    child.expect(r"gpu-02  step 1/")
    child.sendcontrol("c")
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus == 130, child.before
    assert "gpu-02/hot: cancelled, " in child.before and "gpu-02/hot: failed" not in child.before
    check_summary(str(child.before).replace("\r\n", "\n"))


def check_summary(text: str) -> None:
    """Require the summary at the end of *text*."""
    end = text[text.rindex("\nfailed: gpu-01/hot\n") :]
    assert re.search(rf"^  {REASON.replace(': failed', '', 1)}", end, re.MULTILINE), end
    assert "\ncancelled: gpu-02/hot\n" in end and "\ndone: 2 of 4 resources\n" in end, end
    assert "running it again is safe" in end

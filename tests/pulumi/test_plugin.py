"""The whole of it without a machine: pulumi, the program, the plugin it starts by path, SSH, and a simulated host."""

import os
import select
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pulumi.conftest import ROOT, Project, States
from tests.support.inventory import NOTHING, OTHERS, with_nothing_more
from tests.support.recorded_hosts import HOST, blank, recorded
from tests.support.simulated import SimulatedHost, SimulatedRack

pytestmark = pytest.mark.pulumi

FLEET = """
fleet: rack
ssh: {{logins: [{{name: test, user: {user}, key: {key}, become: false}}]}}
hosts:
  gpu-01:
    profile: virtual
    os: debian-12
    address: {address}
    ssh: {{port: {port}}}
    identity: {{serial: RW-GPU-01}}
    tiers:
      hot: {{level: raid10, filesystem: xfs, mount: /srv/hot}}
    drives:
      - {{serial: RW01-BOOT, boot: true}}
      - {{serial: RW01-NVME0, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: RW01-NVME1, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: RW01-NVME2, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: RW01-NVME3, bus: nvme, size: 512MB, tier: hot}}
      - {{serial: RW01-SAS0, bus: sas, size: 512MB}}
      - {{serial: RW01-SAS1, bus: sas, size: 512MB}}
      - {{serial: RW01-SAS2, bus: sas, size: 512MB}}
      - {{serial: RW01-SAS3, bus: sas, size: 512MB}}
"""
SETTINGS = "config: {'rackwright:fleet': fleet.yaml, 'rackwright:target': rack}\n"


@dataclass(frozen=True)
class OneHost(Project):
    """A stack of one host with one tier."""

    settings = "stacks/Pulumi.lab.yaml"
    rack: SimulatedRack
    host: SimulatedHost


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[OneHost]:
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "rackwright").symlink_to(ROOT / "rackwright")
    with SimulatedRack({HOST: blank()}) as rack:
        host = rack[HOST]
        values = {"user": rack.user, "key": rack.key, "address": host.address, "port": host.port}
        (tmp_path / "stacks/fleet.yaml").write_text(FLEET.format(**values))
        (tmp_path / "stacks/Pulumi.lab.yaml").write_text(SETTINGS)
        shutil.copy(rack.known_hosts, tmp_path / "stacks/fleet.known_hosts")
        made = OneHost(tmp_path, environment, rack, host)
        assert made.pulumi("stack", "init", "lab").status == 0
        yield made


@pytest.fixture
def made(project: OneHost, states: States) -> OneHost:
    """The project, with its tier on the host and in the state."""

    def make() -> None:
        done = project.pulumi("up", "--yes", "--skip-preview")
        assert done.status == 0, done.text
        (project.host.directory / "steps").unlink()

    obey(project.host)
    states.give("one-host", project, make)
    project.host.set_facts(with_nothing_more(recorded(HOST), NOTHING, OTHERS))
    return project


def obey(host: SimulatedHost) -> None:
    """Let the host become what was recorded once the tier is ready."""

    def work(step: dict[str, Any]) -> None:
        if step["text"] == "note in the owner file: ready":
            host.set_facts(with_nothing_more(recorded(HOST), NOTHING, OTHERS))

    host.on_step = work


def test_a_tier_is_made_kept_and_missed(project):
    """
    Up makes it, a second look finds nothing to do, a host that is off is a warning, drift ends with 7.
    """
    obey(project.host)
    done = project.pulumi("up", "--yes")
    assert done.status == 0, done.text
    assert 'gpu-01: {\nhot: "/srv/hot"\n}' in done.text
    again = project.pulumi("preview", "--expect-no-changes")
    assert again.status == 0, again.text

    raw = recorded(HOST)
    next(array for array in raw["arrays"] if array["md_name"] == "gpu-01:hot")["bitmap"] = "none"
    project.host.set_facts(raw)
    drifted = project.pulumi("preview", "--diff", "--expect-no-changes")
    assert drifted.status == 7
    assert '~ bitmap: "none" => "internal"' in drifted.text
    assert ": set the bitmap of hot to internal" in drifted.text

    project.rack.switch_off(HOST)
    off = project.pulumi("preview", "--expect-no-changes")
    assert off.status == 0, off.text
    assert "note: the last known state is kept" in off.text


def plugin_of(pulumi: int) -> int:
    """Return a descriptor that becomes readable at the end of the plugin that *pulumi* started."""
    children = " ".join(task.read_text() for task in Path(f"/proc/{pulumi}/task").glob("*/children")).split()
    [plugin] = (child for child in children if b"rackwright.provider" in Path(f"/proc/{child}/cmdline").read_bytes())
    return os.pidfd_open(int(plugin))


@pytest.mark.parametrize("victim", [signal.SIGKILL, signal.SIGINT])
def test_a_pulumi_that_is_stopped_leaves_nothing_behind(project, victim):
    """
    Its plugin ends, the host's lock is free, and the next run goes on.
    """
    begun, let_go = threading.Event(), threading.Event()

    def hang(step: dict[str, Any]) -> None:
        begun.set()
        let_go.wait()

    project.host.on_step = hang
    command = ["pulumi", "--non-interactive", "--stack", "lab", "up", "--yes", "--skip-preview"]
    pulumi = subprocess.Popen(
        command, cwd=project.directory, env=os.environ | project.environment, stdout=subprocess.DEVNULL
    )
    assert begun.wait(120)
    plugin = plugin_of(pulumi.pid)
    pulumi.send_signal(victim)
    assert pulumi.wait(120) != 0
    assert select.select([plugin], [], [], 60)[0]
    os.close(plugin)
    let_go.set()

    if victim == signal.SIGKILL:
        assert project.pulumi("cancel", "--yes", "--stack", "lab").status == 0
    obey(project.host)
    again = project.pulumi("up", "--yes", "--skip-preview")
    assert again.status == 0, again.text

"""An array that somebody else has made: written down, checked, taken over into the state, and its host left alone."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from rackwright.hosts.pins import fingerprint
from tests.pulumi.conftest import ROOT, Project
from tests.pulumi.test_plugin import SETTINGS
from tests.support.adopted_array import UUID, theirs
from tests.support.json_documents import check_printed
from tests.support.simulated import SimulatedHost, SimulatedRack

pytestmark = pytest.mark.pulumi
HOST, TIER = "gpu-01", "gpu-01/old"
ALL = [HOST, "gpu-01/warm", TIER]
"""The warm tier is one that we have made: the state that knew of it was lost."""


@dataclass(frozen=True)
class Found(Project):
    """A project without a fleet, and a host that somebody has set up."""

    settings = "stacks/Pulumi.lab.yaml"
    rack: SimulatedRack
    host: SimulatedHost

    def rackwright(self, *arguments: str, status: int = 0) -> str:
        return self._run(arguments, status).stdout

    def errors(self, *arguments: str, status: int) -> str:
        return self._run(arguments, status).stderr

    def _run(self, arguments: Sequence[str], status: int) -> "subprocess.CompletedProcess[str]":
        argv = [str(ROOT / ".venv/bin/rackwright"), *arguments]
        done = subprocess.run(
            argv,
            cwd=self.directory,
            env=os.environ | self.environment,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        check_printed(arguments, done.stdout)
        return done

    def discover(self) -> None:
        _, key = self.host.host_key.split()
        shown = fingerprint(base64.b64decode(key))
        at = f"{self.rack.user}@{self.host.address}:{self.host.port}"
        known = ("--key", str(self.rack.key), "--fingerprint", shown)
        self.rackwright("discover", at, *known, "--into", "stacks/rack.yaml")


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str]) -> Iterator[Found]:
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "stacks").mkdir()
    (tmp_path / "rackwright").symlink_to(ROOT / "rackwright")
    (tmp_path / "stacks/Pulumi.lab.yaml").write_text(SETTINGS.replace("fleet.yaml", "rack.yaml"))
    raw = theirs()
    for link in raw["links"]:
        link.setdefault("addresses", [])  # recorded before the probe reported them
    with SimulatedRack({HOST: raw}) as rack:
        yield Found(tmp_path, environment, rack, rack[HOST])


def test_what_is_there_is_taken_over_and_nothing_is_sent_to_it(project):
    """
    Discovered, checked, adopted: preview is clean, nothing is left to do, and one tier is imported by its id.
    """
    project.discover()
    project.rackwright("check", "lab")

    report = json.loads(project.rackwright("adopt", "lab", "--json"))
    assert (report["adopted"], report["already_adopted"], report["not_adopted"], report["changes"]) == (ALL, [], {}, {})
    project.rackwright("preview", "lab")
    again = json.loads(project.rackwright("adopt", "lab", "--json"))
    assert (again["adopted"], again["already_adopted"]) == ([], ALL)

    exported = json.loads(project.pulumi("stack", "export", "--stack", "lab").text)["deployment"]["resources"]
    urns = {each["urn"].rpartition("::")[2]: each["urn"] for each in exported if "$rackwright:storage" in each["urn"]}
    assert project.pulumi("state", "delete", "--yes", "--stack", "lab", urns[TIER]).status == 0
    assert project.pulumi("preview", "--stack", "lab", "--expect-no-changes").status == 7
    options = ("--yes", "--skip-preview", "--generate-code=false", "--protect=false", "--stack", "lab")
    imported = project.pulumi("import", "rackwright:storage:Tier", TIER, TIER, *options)
    assert imported.status == 0, imported.text
    project.rackwright("preview", "lab")

    assert project.host.steps == []


def test_what_is_otherwise_is_reported_and_left(project):
    """
    Another level is declared than is there: the host is taken over, its tier is not.
    """
    project.discover()
    path = project.directory / "stacks/rack.yaml"
    path.write_text(path.read_text().replace("level: raid10", "level: raid6"))

    report = json.loads(project.rackwright("adopt", "lab", "--json", status=1))
    assert report["adopted"] == [HOST, "gpu-01/warm"]
    assert report["not_adopted"][TIER][0].startswith(f"md:{UUID}.level is raid10, wanted raid6")
    assert project.host.steps == []

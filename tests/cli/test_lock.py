"""The lock command, from a fleet to a repository and back."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.cli.pulumi import preview
from rackwright.errors import ChangeRefused, DeclarationError, SetupError
from tests.support.package_mirror import Mirror, mirror
from tests.support.stack_settings import configure

__all__ = ["mirror"]
FLEET = """\
fleet: example
mirror: {}
hosts:
  alpha:
    address: 192.0.2.11
    identity: {serial: CHASSIS-A}
    os: debian-12
    roles: {base: {packages: [tool]}}
"""


@pytest.fixture
def project(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Path:
    project = tmp_path / "project"
    (project / "stacks").mkdir(parents=True)
    (project / "Pulumi.yaml").touch()
    (project / "stacks" / "example.yaml").write_text(FLEET)
    configure(project, "rack", "example.yaml", "rack")
    monkeypatch.chdir(project)
    for name in ("chrony", "unattended-upgrades"):
        mirror.add(name, "1")
    mirror.add("tool", "1", "library")
    mirror.add("library", "1")
    return project


def rackwright(*arguments: str) -> tuple[int, str]:
    """Return the exit status and what is printed."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return done.exit_code, done.stdout


def test_a_fleet_is_locked_once_and_the_same_way_again(project, mirror):
    path = project / "stacks/example.lock.yaml"
    assert rackwright("lock", "--check", "rack")[0] == 1
    assert not path.exists()

    assert rackwright("lock", "rack") == (0, "stacks/example.lock.yaml: 4 packages, 0 images, 0 wheels; written\n")
    assert "library=1" in path.read_text()
    text = path.read_text()
    assert "://" not in text

    assert rackwright("lock", "rack") == (
        0,
        "stacks/example.lock.yaml: 4 packages, 0 images, 0 wheels; nothing changed\n",
    )
    assert rackwright("lock", "--check", "rack")[0] == 0
    assert path.read_text() == text


def test_a_newer_version_is_taken_on_request(project, mirror):
    rackwright("lock", "rack")
    mirror.add("library", "2")

    assert rackwright("lock", "--check", "rack")[0] == 0
    status, output = rackwright("lock", "--upgrade", "--json", "rack")
    assert status == 0
    assert json.loads(output) == {
        "schema_version": 1,
        "lock": "stacks/example.lock.yaml",
        "changes": ["- packages debian-12/amd64 library=1", "+ packages debian-12/amd64 library=2"],
    }


def test_a_package_that_does_not_fit_the_lock_is_locked_again(project, mirror):
    rackwright("lock", "rack")
    mirror.drop(mirror.directory / "tool_1_all.deb")
    mirror.add("tool", "2", "library (= 2)")
    mirror.add("library", "2")

    status, output = rackwright("lock", "rack")

    assert status == 0
    assert {line for line in output.splitlines() if line[0] in "+-"} == {
        *("- packages debian-12/amd64 library=1", "+ packages debian-12/amd64 library=2"),
        *("- packages debian-12/amd64 tool=1", "+ packages debian-12/amd64 tool=2"),
    }


def test_hosts_are_served_once_all_is_kept_and_not_before(project, mirror, tmp_path):
    rackwright("lock", "rack")
    with pytest.raises(DeclarationError, match="the lock has no key"):
        rackwright("check", "rack")

    assert rackwright("lock", "--to", str(tmp_path / "web"), "rack")[0] == 0
    assert rackwright("check", "rack")[0] == 0
    assert len(list((tmp_path / "web/pool").rglob("*.deb"))) == 4
    assert (tmp_path / "web/dists/debian-12/InRelease").exists()
    text = (project / "stacks/example.lock.yaml").read_text()
    assert rackwright("lock", "--fetch", "rack")[0] == 0
    assert (project / "stacks/example.lock.yaml").read_text() == text

    next((tmp_path / "cache/mirror/pool/debian-12").glob("*.deb")).unlink()
    with pytest.raises(SetupError, match=r"1 of its files are missing, .* Run `rackwright lock --fetch rack`"):
        preview("rack")


def test_nothing_is_written_where_something_cannot_be_had(project, mirror):
    fleet = project / "stacks/example.yaml"
    fleet.write_text(FLEET.replace("tool]", "tool, nothing]"))

    with pytest.raises(ChangeRefused, match="alpha: apt cannot resolve the packages: Unable to locate package nothing"):
        rackwright("lock", "--fetch", "rack")
    assert not (project / "stacks/example.lock.yaml").exists()


def test_other_systems_are_refused_by_name(project):
    (project / "stacks/example.yaml").write_text(FLEET.replace("debian-12", "ubuntu-24.04"))

    with pytest.raises(
        DeclarationError, match=r"hosts\.alpha\.os: packages of ubuntu-24\.04 cannot be locked; debian-12"
    ):
        rackwright("lock", "rack")


def test_a_check_fetches_nothing(project):
    done = CliRunner().invoke(app, ["lock", "--check", "--fetch", "rack"])

    assert done.exit_code == 2
    assert "writes nothing" in done.output

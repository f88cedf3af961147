"""The directories of rackwright's own files and of the user's project, and the commit that runs."""

import subprocess
from pathlib import Path

import pytest

from rackwright import locations
from tests.support.sources import ROOT


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "rackwright/data").mkdir(parents=True)
    monkeypatch.setattr(locations, "PACKAGE", tmp_path / "rackwright")
    return tmp_path / "rackwright"


def test_a_checkout_has_its_files_in_its_root() -> None:
    assert locations.repository() == ROOT


def test_an_installation_has_its_files_in_the_package(installation: Path) -> None:
    assert locations.repository() == installation / "data"


def test_the_commit_is_that_of_git_in_a_checkout() -> None:
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True)

    assert head.startswith(str(locations.commit()).removesuffix("-dirty"))


def test_the_commit_is_that_of_the_build_in_an_installation(installation: Path) -> None:
    assert locations.commit() is None

    (installation / "commit.txt").write_text("d1473793-dirty\n")
    assert locations.commit() == "d1473793-dirty"


def test_the_project_is_the_nearest_directory_with_a_pulumi_yaml(tmp_path: Path) -> None:
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    assert locations.find_project(below) is None

    (tmp_path / "Pulumi.yaml").touch()
    assert locations.find_project(below) == tmp_path
    (tmp_path / "a/Pulumi.yaml").touch()
    assert locations.find_project(below) == tmp_path / "a"

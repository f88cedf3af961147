"""The wheel: built twice it has the same bytes, it has all files, and its commands work far from a checkout."""

import json
import os
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from rackwright import __version__
from rackwright.cli.packages import ALL_REQUIREMENTS
from rackwright.fleet.lockfile import repository_digests
from tests.support.ansible_inventory import read_inventory
from tests.support.sources import ROOT
from tests.support.wheels import build, install
from tests.wheel_requirements import without_build

DATA = ("docs", "playbooks", "roles", "stacks", "templates", "workloads")
NO_CONTENT = ("__pycache__", ".ruff_cache", "stacks/__init__.py", ".lock.yaml", ".known_hosts")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(wheel, tmp_path_factory.mktemp("installation") / "tool")


@pytest.fixture(scope="module")
def project(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("work") / "demo"
    run(programs, directory.parent, "init", "demo")
    return directory


def run(programs: Path, directory: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [programs / "rackwright", *arguments], cwd=directory, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_build_has_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path)

    assert again.name == wheel.name == f"rackwright-{__version__}-py3-none-any.whl"
    assert again.read_bytes() == wheel.read_bytes()


def test_the_list_of_a_wheel_has_no_package_that_only_a_build_needs() -> None:
    lock = (ROOT / "requirements/core.txt").read_text()
    listed = without_build(lock)
    of_build = {"editables", "hatchling", "pathspec", "pip", "pluggy", "tomlkit", "trove-classifiers"}
    names = {text: set(re.findall(r"(?m)^([A-Za-z0-9._-]+)==", text)) for text in (lock, listed)}

    assert names[lock] - names[listed] == of_build
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {re.split(r"[=<>]", each)[0].replace(".", "-") for each in wanted} <= names[listed]
    hashes = [line for line in listed.splitlines() if "--hash" in line]
    assert len(hashes) > len(names[listed]) and not set(hashes) - set(lock.splitlines())


def test_the_lists_of_a_wheel_have_what_object_stores_need_in_the_same_versions() -> None:
    """`init --packages` takes the longer one: CI of a fleet with buckets failed for want of boto3."""
    core, full = (
        set(re.findall(r"(?m)^[A-Za-z0-9._-]+==[^ ]+", without_build((ROOT / f"requirements/{name}.txt").read_text())))
        for name in ("core", "s3")
    )
    [recipe] = re.findall(r"(?ms)^wheel:.*?\n\n", (ROOT / "Makefile").read_text())

    assert core < full
    assert {each.partition("==")[0] for each in full - core} >= {"boto3", "botocore"}
    assert f"requirements/s3.txt >dist/{ALL_REQUIREMENTS}" in recipe and f"tee -a {ALL_REQUIREMENTS}" in recipe


def test_masking_has_a_list_of_its_own_with_the_same_versions() -> None:
    core, full = (
        set(re.findall(r"(?m)^[A-Za-z0-9._-]+==[^ ]+", without_build((ROOT / f"requirements/{name}.txt").read_text())))
        for name in ("core", "masking")
    )

    assert {each.partition("==")[0] for each in full - core} == {"pyarrow", "python-stdnum"} and core < full


def test_the_wheel_has_every_file_in_one_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    folders = {"rackwright": ROOT, **dict.fromkeys(DATA, ROOT)}
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    sources = [path.relative_to(ROOT).as_posix() for path in paths]
    sources = [path for path in sources if not any(part in path for part in NO_CONTENT)]
    expected = {path if path.startswith("rackwright/") else f"rackwright/data/{path}" for path in sources}

    assert len(expected) > 500
    assert expected - names == set()
    assert {name.partition("/")[0] for name in names} == {"rackwright", f"rackwright-{__version__}.dist-info"}


def test_an_installation_has_the_repository_of_its_checkout(programs: Path, tmp_path: Path) -> None:
    """A lock that one of them wrote is valid for the other."""
    program = (
        "import json; from rackwright import locations; from rackwright.fleet.lockfile import repository_digests;"
        "print(json.dumps([str(locations.PACKAGE), *repository_digests(locations.repository(), ['base', 'cuda'])]))"
    )
    argv = [programs / "python", "-c", program]
    place, *digests = json.loads(subprocess.run(argv, cwd=tmp_path, check=True, capture_output=True).stdout)

    assert Path(place).is_relative_to(programs.parent)
    assert digests == list(repository_digests(ROOT, ["base", "cuda"]))


def test_check_schema_digests_and_inventory_work_in_a_new_project(programs: Path, project: Path) -> None:
    assert run(programs, project, "check", "lab") == "lab: 2 hosts, 6 resources, no errors\n"
    assert run(programs, project, "run", "recipes").startswith("digits ")
    assert run(programs, project, "schema") == (project / ".vscode/fleet.schema.json").read_text()
    assert json.loads(run(programs, project / "stacks", "digests", "lab"))
    assert set(read_inventory(run(programs, project, "inventory", "lab"))["all"]["hosts"]) == {"gpu-01", "gpu-02"}


def test_an_error_is_explained_with_pages_of_the_installation(programs: Path, tmp_path: Path) -> None:
    explained = run(programs, tmp_path, "explain", "login-refused")

    [page] = re.findall(r"\((/[^)]+)\)", explained)
    assert Path(page).is_relative_to(programs.parent) and Path(page).is_file()


def test_another_package_named_workloads_is_refused(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "workloads").mkdir()
    (tmp_path / "workloads/__init__.py").touch()
    done = subprocess.run(
        [programs / "python", "-c", "import rackwright"], cwd=tmp_path, capture_output=True, text=True
    )

    assert f"another package named workloads: {tmp_path}/workloads/__init__.py" in done.stderr
    assert "Rename the other package." in done.stderr


def test_the_project_of_a_module_named_like_ours_still_checks(programs: Path, project: Path) -> None:
    """The command line does not read packages of the project."""
    (project / "workloads").mkdir()
    (project / "workloads/__init__.py").touch()

    assert run(programs, project, "check", "lab")

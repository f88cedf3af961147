"""The environment for pulumi: what it sets, what it leaves alone, and that a shell reads it as it was meant."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright import locations
from rackwright.cli import project
from rackwright.toolchain import Toolchain, environment, exports, prepare, write_python

ROOT = Path("/srv/rack one")
TOOLS = Toolchain(Path("/cache/tools"), "v3.274.1", "modules")


def test_our_programs_come_first_and_once():
    """
    The language host takes Python from PATH, in a shell that is in the environment already too.
    """
    once = environment(ROOT, TOOLS, {"PATH": "/usr/bin:/bin"})
    twice = environment(ROOT, TOOLS, once)

    assert once["PATH"] == f"/srv/rack one/.rackwright/bin:/cache/tools:{Path(sys.executable).parent}:/usr/bin:/bin"
    assert twice == once


def test_the_state_is_a_file_backend_in_the_project():
    """
    The backend is an URL, so what a path may contain and an URL may not is escaped.
    """
    assert environment(ROOT, TOOLS, {})["PULUMI_BACKEND_URL"] == "file:///srv/rack%20one/.rackwright/state"


@pytest.mark.parametrize("name", ["PULUMI_BACKEND_URL", "PULUMI_HOME", "PULUMI_PARALLEL", "PULUMI_CONTINUE_ON_ERROR"])
def test_what_a_person_has_set_is_left_alone(name):
    """
    Another backend is only a matter of its variable.
    """
    assert name not in environment(ROOT, TOOLS, {name: "theirs"})


def test_the_environment_has_no_passphrase():
    """
    Pulumi would take it for every stack, that of a real rack too.
    """
    assert not [name for name in environment(ROOT, TOOLS, {}) if "PASSPHRASE" in name]


def test_pulumi_may_install_the_providers_of_a_program():
    """
    A program may have resources of other providers, and pulumi installs their plugins by itself.
    """
    assert not [name for name in environment(ROOT, TOOLS, {}) if "PLUGIN_ACQUISITION" in name]


def test_another_checkouts_environment_is_no_wish():
    """
    In the shell of one checkout, a second one works on its own state; a person's value still holds.
    """
    shell = {"PULUMI_PARALLEL": "8"}
    shell |= environment(Path("/srv/first"), TOOLS, shell)

    second = environment(ROOT, TOOLS, shell)

    assert "/srv/first" not in "".join(value for name, value in second.items() if name != "PATH")
    assert second["PULUMI_HOME"] == "/srv/rack one/.rackwright/pulumi"
    assert "PULUMI_PARALLEL" not in second


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20))
def test_a_shell_reads_the_values_that_were_written(value):
    """
    Whatever is in a value: quotes, dollars, newlines.
    """
    script = exports({"RACKWRIGHT_TEST": value}) + 'printf %s "$RACKWRIGHT_TEST"'

    assert subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout == value.encode()


def test_the_workloads_can_be_imported_in_a_project(tmp_path):
    """
    In a checkout they are in the current directory; the packages of rackwright's own environment stay out of it.
    """
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PYTHONPATH $*"\n')
    python.chmod(0o755)

    launcher = write_python(tmp_path, "workloads", python)

    def run(**variables: str) -> str:
        return subprocess.check_output([launcher, "-m", "workloads.training"], env=variables, text=True)

    assert run() == f"{locations.repository()} -m workloads.training\n"
    assert run(PYTHONPATH="/theirs") == f"{locations.repository()}:/theirs -m workloads.training\n"


@pytest.mark.parametrize("has_project", [False, True])
def test_the_workloads_can_be_imported_in_any_directory(has_project, tmp_path, monkeypatch):
    """Guides for users of the wheel take what `toolchain` prints, wherever they are."""
    monkeypatch.setenv("RACKWRIGHT_CACHE", str(tmp_path / "cache"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if has_project:
        (here / "Pulumi.yaml").write_text("name: here\n")
    python = project.workloads_python("workloads", Path(sys.executable))

    assert python.is_relative_to(here if has_project else tmp_path / "cache")
    code = "import workloads; print(workloads.__path__[0])"
    printed = subprocess.check_output([python, "-c", code], env={}, text=True)
    assert printed == f"{locations.repository() / 'workloads'}\n"
    monkeypatch.chdir(locations.repository())
    assert project.workloads_python("workloads", Path(sys.executable)) == Path(sys.executable)


def test_prepare_makes_what_the_variables_point_to(tmp_path):
    """
    A second time changes nothing, not even a passphrase that a person has put there.
    """
    prepare(tmp_path)
    passphrase = tmp_path / ".rackwright" / "passphrase"
    assert passphrase.stat().st_mode & 0o777 == 0o600
    passphrase.write_text("theirs")

    prepare(tmp_path)

    assert passphrase.read_text() == "theirs"
    assert sorted(path.name for path in (tmp_path / ".rackwright").iterdir()) == [
        ".gitignore",
        "bin",
        "passphrase",
        "pulumi",
        "state",
    ]

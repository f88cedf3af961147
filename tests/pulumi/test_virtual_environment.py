"""The command line and the language host of the toolchain as a pair: they run a program in its own environment."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.pulumi.conftest import Project

pytestmark = pytest.mark.pulumi
PROGRAM = "import sys\nimport pulumi\n\npulumi.info(f'the program runs in {sys.prefix}')\n"


def test_a_program_runs_in_the_virtual_environment_that_pulumi_yaml_names(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    own = tmp_path / "own"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", own], check=True)
    [packages] = own.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    (tmp_path / "Pulumi.yaml").write_text("{name: own, runtime: {name: python, options: {virtualenv: own}}}")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    project = Project(tmp_path, environment)

    assert project.pulumi("stack", "init", "lab").status == 0
    assert f"the program runs in {own}" in project.pulumi("preview", "--stack", "lab").text

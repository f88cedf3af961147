"""The real pulumi, on a project of toy boxes with its state in a temporary directory."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest

from rackwright.toolchain import choose, shell
from tests.support.provider_rig import RED, Rig, rig
from tests.support.recorded_hosts import SALT
from tests.support.toy_kind import TOKEN

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PROGRAM = f"""
import json
from pathlib import Path
import pulumi

for name, spec in json.loads(Path("boxes.json").read_text()).items():
    pulumi.CustomResource({TOKEN!r}, name, {{"claims": None, "report": None, **spec}})
"""


@dataclass(frozen=True)
class Ended:
    """How a pulumi command ended."""

    status: int
    text: str
    """All it printed, one blank for each run of blanks."""
    digest: dict[str, Any]
    """What it printed with --json."""
    raw: str
    """What it printed as its result."""


@dataclass(frozen=True)
class Project:
    settings: ClassVar[str] = "Pulumi.lab.yaml"
    """Path of the settings of its stack lab, which have the salt of the passphrase."""
    directory: Path
    environment: dict[str, str]

    def pulumi(self, *arguments: str) -> Ended:
        done = subprocess.run(
            ["pulumi", "--non-interactive", "--color=never", *arguments],
            cwd=self.directory,
            env=os.environ | self.environment,
            text=True,
            capture_output=True,
            check=False,
        )
        digest = json.loads(done.stdout) if "--json" in arguments else {}
        lines = (" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines())
        return Ended(done.returncode, "\n".join(lines), digest, done.stdout)


@dataclass(frozen=True)
class Boxes(Project):
    """A project whose provider lives in this test."""

    rig: Rig

    def declare(self, **boxes: dict[str, Any]) -> None:
        """Declare the boxes *name=changes*, each like RED but for the changes."""
        specs = {name: {**RED, "name": name, **changes} for name, changes in boxes.items()}
        (self.directory / "boxes.json").write_text(json.dumps(specs))


class States:
    """States of the stack lab with which several tests begin: the first test makes one, and the others copy it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._results: dict[str, Any] = {}

    def give(self, name: str, project: Project, make: Callable[[], T]) -> T:
        """Give *project* the state *name*, and return what *make* returned when it made this state."""
        kept = self._directory / name
        if name not in self._results:
            self._results[name] = make()
            _copy_state(project, project.directory, kept)
        else:
            _copy_state(project, kept, project.directory)
        result: T = self._results[name]
        return result


def _copy_state(project: Project, source: Path, target: Path) -> None:
    shutil.copytree(source / ".rackwright/state", target / ".rackwright/state", dirs_exist_ok=True)
    (target / project.settings).parent.mkdir(exist_ok=True)
    shutil.copy(source / project.settings, target / project.settings)


@pytest.fixture(scope="session")
def states(tmp_path_factory: pytest.TempPathFactory) -> States:
    return States(tmp_path_factory.mktemp("states"))


@pytest.fixture(scope="session")
def toolchain() -> choose.Toolchain:
    return choose.ensure(print)


@pytest.fixture
def environment(tmp_path: Path, toolchain: choose.Toolchain) -> dict[str, str]:
    """The project's environment, with all it keeps below tmp_path; its fleet has the salt of the recorded facts."""
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    shell.prepare(tmp_path)
    salts = tmp_path / ".rackwright/salts"
    salts.mkdir(parents=True)
    (salts / "rack").write_bytes(SALT)
    ours = shell.environment(tmp_path, toolchain, {"PATH": os.environ["PATH"]})
    return ours | {"PULUMI_CONFIG_PASSPHRASE": "of this test"}


@pytest.fixture
def boxes(tmp_path: Path, environment: dict[str, str]) -> Iterator[Boxes]:
    (tmp_path / "Pulumi.yaml").write_text("{name: rackwright, runtime: {name: python, options: {virtualenv: .venv}}}")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    with rig() as made:
        project = Boxes(tmp_path, environment | {"PULUMI_DEBUG_PROVIDERS": f"rackwright:{made.port}"}, made)
        project.declare(a={}, b={"host": "h2"})
        assert project.pulumi("stack", "init", "lab").status == 0
        yield project

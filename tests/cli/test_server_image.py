"""The command that writes what a server's image is built from."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli.app import app
from rackwright.errors import ChangeRefused
from tests.support.server_stack import BASE, project

__all__ = ["project"]


@pytest.fixture(autouse=True)
def checkout(project: Path) -> None:
    (project / "Pulumi.yaml").touch()


def written(*more: str) -> str:
    """Return what is printed."""
    argv = ("server", "image", "serving", "digits", "--base", BASE, "--out", "image", *more)
    done = CliRunner().invoke(app, argv, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_it_says_how_it_is_built_and_how_it_is_run(project: Path) -> None:
    output = written().splitlines()
    tag = json.loads(written("--json"))["image"]

    assert output[1:4] == [
        f"  podman build --format docker --tag {tag} image",
        f"  buildah build --format docker --tag {tag} image",
        f"  docker build --file image/Containerfile --tag {tag} image",
    ]
    for part in ("--read-only", "--stop-timeout 50", "--volume MODEL:/model:ro", "--publish 8080:8080"):
        assert part in output[5]
    assert " --volume /etc/rackwright/servers/digits:/etc/rackwright/servers/digits:ro localhost/digits:" in output[5]


def test_it_is_written_for_the_account_of_the_image_and_again_the_same(project: Path) -> None:
    written()
    first = {path.name: path.read_bytes() for path in (project / "image").iterdir()}
    written()

    assert {path.name: path.read_bytes() for path in (project / "image").iterdir()} == first
    assert {path.stat().st_mode & 0o777 for path in (project / "image").iterdir()} == {0o644}


def test_a_directory_with_other_things_in_it_is_left_as_it_is(project: Path) -> None:
    (project / "image").mkdir()
    (project / "image" / "app.py").write_text("mine")
    (project / "image" / "main.py").touch()
    with pytest.raises(
        ChangeRefused, match="image: the directory contains another file, main.py; a directory that is absent"
    ):
        written()

    assert (project / "image" / "app.py").read_text() == "mine"

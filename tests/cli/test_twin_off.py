"""Commands that need hosts of a twin that is off: they name the command that starts it, once."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli import project as cli_project
from rackwright.cli.app import app
from rackwright.cli.init import Example, project_files
from rackwright.errors import HostUnreachable
from rackwright.hosts import pool
from rackwright.stack import load_stack

REFUSED = ["adopt lab", "drive locate lab gpu-01 SERIAL", "host qualify lab gpu-01"]
REPORTS = ["audit lab", "status lab", "gpu top lab --once"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in project_files("demo", Example.rack, python=False).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RACKWRIGHT_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(cli_project, "environment", lambda stack: {})
    monkeypatch.setattr(cli_project, "secrets", lambda stack: stack)
    monkeypatch.setattr("rackwright.cli.state.pulumi", lambda *arguments: "[]")
    return tmp_path


@pytest.mark.parametrize("line", REFUSED)
def test_a_command_that_needs_hosts_names_the_twin_and_no_host(project: Path, line: str) -> None:
    with pytest.raises(HostUnreachable) as caught:
        CliRunner().invoke(app, line.split(), catch_exceptions=False)

    [error] = caught.value.diagnostics
    assert (error.where, error.problem) == ("twin lab", "the twin is off")
    assert error.help == "Run `rackwright twin start lab`"


@pytest.mark.parametrize("line", REPORTS)
def test_a_report_says_so_once_beside_the_hosts(project: Path, line: str) -> None:
    done = CliRunner().invoke(app, line.split(), catch_exceptions=False)

    assert done.exit_code == 3
    assert done.stderr.count("note: the twin is off; `rackwright twin start lab` starts it") == 1
    assert "not reached" in done.stdout


def test_a_rack_and_a_twin_that_is_on_are_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else keeps a command from its hosts."""
    opened: list[object] = []

    class Pool:
        def __init__(self, *arguments: object, **more: object) -> None:
            opened.append(arguments)

        def close(self) -> None: ...

    monkeypatch.setattr(pool, "Hosts", Pool)
    stack = load_stack("lab", project)
    monkeypatch.setattr(cli_project, "is_twin_off", lambda stack: False)
    with cli_project.connect_hosts(stack):
        assert len(opened) == 1

"""`rackwright twin reset`: a stack beside it with errors in its settings stops nothing half-way."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from rackwright import terminal
from rackwright.cli import project, twin
from rackwright.cli.app import app
from rackwright.errors import ChangeRefused, StepFailed
from rackwright.log import digests

SETTINGS = {
    "lab": "config: {rackwright:fleet: rack.yaml, rackwright:target: twin:lab}\n",
    "half": "config: {rackwright:target: twin:lab}\n",
    "other": "config: {rackwright:fleet: rack.yaml, rackwright:target: twin:other}\n",
    "empty": "config:\n",
    "broken": "config: {\n",
}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The actions of the command: `reset` for the machines, and the name of each stack whose state it deletes."""
    (tmp_path / "stacks").mkdir()
    for name, text in SETTINGS.items():
        (tmp_path / f"stacks/Pulumi.{name}.yaml").write_text(text)
    done: list[str] = []
    monkeypatch.setattr(project, "stack", lambda name: SimpleNamespace(name=name, project=tmp_path, twin="lab"))
    monkeypatch.setattr(project, "environment", lambda name: {})
    monkeypatch.setattr(digests, "of_code", dict)
    monkeypatch.setattr(twin, "build", lambda stack: SimpleNamespace(reset=lambda progress: done.append("reset")))
    monkeypatch.setattr(twin.subprocess, "run", lambda argv, **options: done.append(argv[-1]) or answer(argv[-1]))
    return done


def answer(name: str, stderr: str = "error: no stack named 'half' found") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], int(name == "half"), "", stderr)


def test_settings_with_errors_keep_the_other_states_from_nothing(calls: list[str]) -> None:
    result = CliRunner().invoke(app, ["twin", "reset", "lab", "--yes"])

    assert result.exit_code == 0, result.exception
    assert calls == ["reset", "half", "lab"]
    assert "the state of stack broken is kept, because its settings have errors: " in result.stderr
    assert "state of stack half: none\nstate of stack lab: deleted\n" in result.stderr


def test_a_state_that_stays_is_an_error_of_its_own(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin.subprocess, "run", lambda argv, **options: answer(argv[-1], "error: the stack is locked"))
    result = CliRunner().invoke(app, ["twin", "reset", "lab", "--yes"])

    assert isinstance(result.exception, StepFailed)
    assert str(result.exception).startswith(
        'stack half: its state is not deleted; pulumi printed "error: the stack is locked"; the disks of the twin are'
    )
    assert "state of stack lab: deleted" in result.stderr


def test_nothing_is_deleted_without_an_answer(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(app, ["twin", "reset", "lab"])
    assert isinstance(result.exception, ChangeRefused)
    assert "`rackwright twin reset lab` on a terminal, or pass --yes" in str(result.exception)

    questions: list[str] = []
    monkeypatch.setattr(terminal, "require", lambda help: None)
    monkeypatch.setattr(terminal, "confirm", lambda question: bool(questions.append(question)))
    result = CliRunner().invoke(app, ["twin", "reset", "lab"])
    assert (result.exit_code, calls) == (2, [])
    assert questions == ["Delete all disks of the twin lab, and the states of half, lab?"]

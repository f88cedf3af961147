"""`rackwright host forget`: it asks before it changes the state, and refuses a host that the state does not have."""

import pytest
from typer.testing import CliRunner

from rackwright import terminal
from rackwright.cli import state
from rackwright.cli.app import app
from rackwright.errors import DeclarationError

STACK = "urn:pulumi:lab::rackwright::"
HOST = f"{STACK}rackwright:index:GpuHost"
URNS = [
    f"{STACK}pulumi:pulumi:Stack::rackwright-lab",
    f"{HOST}::gpu-01",
    f"{HOST}$pulumi:providers:rackwright::gpu-01",
    f"{HOST}$rackwright:storage:Tier::gpu-01/hot",
    f"{HOST}::gpu-02",
]
NAMES = "gpu-01, gpu-01/hot"


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URNs that the command removes from the state."""
    urns: list[str] = []
    monkeypatch.setattr(state, "urns", lambda stack: URNS)
    monkeypatch.setattr(state, "pulumi", lambda stack, *argv: urns.append(argv[-1]))
    return urns


def test_an_unknown_host_is_refused_by_name(deleted: list[str]) -> None:
    result = CliRunner().invoke(app, ["host", "forget", "lab", "gpu-10", "--yes"])

    assert isinstance(result.exception, DeclarationError)
    assert str(result.exception) == (
        "stack lab: the state has no host gpu-10; a host with resources in the state: gpu-01, gpu-02."
        " Name one of these."
    )
    assert deleted == []


def test_nothing_is_removed_without_a_confirmation(deleted: list[str]) -> None:
    result = CliRunner().invoke(app, ["host", "forget", "lab", "gpu-01"])

    assert result.exit_code == 2
    assert "nothing was changed: confirm with --yes" in result.stderr
    assert deleted == []


def test_the_question_names_each_resource_once(deleted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []
    monkeypatch.setattr(terminal, "confirm", lambda question: questions.append(question) or True)
    result = CliRunner().invoke(app, ["host", "forget", "lab", "gpu-01"])

    assert questions == [f"Remove {NAMES} from the state of stack lab?"]
    assert (result.exit_code, result.stderr) == (0, f"forgotten: {NAMES}\n")
    assert deleted == [URNS[3], URNS[1]], "dependent resources come first"

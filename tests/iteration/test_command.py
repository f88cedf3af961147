"""`rackwright server iterate` as it is typed: what it prints, and its exit status."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rackwright.cli import main, pulumi
from rackwright.iteration import process
from rackwright.toolchain import workloads
from tests.iteration.conftest import FLEET, FakeActions


@pytest.fixture
def call(outside: FakeActions, monkeypatch: pytest.MonkeyPatch):
    """Return a function that types the command, on workloads and an `up` that are pretended, and returns its status."""
    monkeypatch.setattr(workloads, "ensure", lambda say: SimpleNamespace(python=Path("python")))
    monkeypatch.setattr(process, "run", lambda python, argv, say: outside.run_python(argv, say))
    monkeypatch.setattr(pulumi, "up", lambda stack, yes, stdout: outside.roll_out())

    monkeypatch.setattr("os._exit", sys.exit)  # which ends an interrupted command, and would end the tests

    def type_it(*more: str, data: str = "new.npz", yes: bool = True) -> int:
        given = ["--data", data, *(["--yes"] if yes else []), *more]
        monkeypatch.setattr(sys, "argv", ["rackwright", "server", "iterate", "serving", "digits", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return type_it


def test_it_is_one_command_from_new_rows_to_a_served_model(call, outside, capsys) -> None:
    assert call() == 0
    printed = capsys.readouterr()

    assert "digits: served" in printed.out and "quantize" in printed.out and "0.9650" in printed.out
    assert "1/6 find" in printed.err and "6/6 up" in printed.err and "  training has ended" in printed.err


def test_it_prints_for_machines(call, capsys) -> None:
    assert call("--json") == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "served"


def test_what_a_gate_refuses_ends_with_1_and_its_report(call, outside, project, capsys) -> None:
    outside.tuned["digits"] = 0.5
    assert call("--json") == 1
    printed = capsys.readouterr()

    assert json.loads(printed.out)["outcome"] == "refused"
    assert "gate: accuracy: the new model falls short: 0.5000 on digits" in printed.err
    assert (project / "stacks" / "serving.yaml").read_text() == FLEET


def test_a_floor_refuses_and_a_bad_model_without_one_has_a_warning(call, outside, project, capsys) -> None:
    outside.before["new"], outside.tuned["new"], outside.made["new"] = 0.1, 0.2, 0.2
    assert call("--at-least", "0.5") == 1
    assert "0.2000 on new rows, of at least 0.5" in capsys.readouterr().err
    assert call("--at-least", "1.5") == 2
    assert call("--at-least", "0.2") == 0
    assert "warning" not in "".join(capsys.readouterr())
    assert call("--must-gain", "0.1") == 0
    printed = capsys.readouterr()
    assert "warning: the gate has only compared" in printed.out and "warning: the gate has only compared" in printed.err


def test_questions_for_a_classifier_end_with_2(call, project, capsys) -> None:
    (project / "exam.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer": 0}\n' * 8)
    assert call("--choices", "exam.jsonl") == 2
    assert "--choices: models for .npz data answer no questions" in capsys.readouterr().err


def test_a_mistake_ends_with_2(call) -> None:
    assert call(data="none.npz") == 2
    assert call("--set", "steps=1") == 2


@pytest.mark.parametrize("status", [3, 4])
def test_a_rollout_ends_as_up_does(call, outside, status: int) -> None:
    outside.status["up"] = status
    assert call() == status


@pytest.mark.parametrize("where", ["training", "up"])
def test_an_interruption_ends_with_130(call, outside, where: str) -> None:
    outside.interrupts = where
    assert call() == 130


def test_without_a_terminal_or_yes_nothing_is_trained(call, outside, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    assert call(yes=False) == 2
    assert "Pass --yes to change the hosts without a question" in capsys.readouterr().err
    assert outside.names == []
    assert call("--until", "promote", yes=False) == 0


def test_without_hosts_it_says_what_would_roll_it_out(call, outside, capsys) -> None:
    assert call("--until", "promote") == 0
    assert "roll it out with `rackwright up serving`" in capsys.readouterr().err
    assert "up" not in outside.names

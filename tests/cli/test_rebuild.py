"""`rackwright rebuild`: what it checks before it deletes disks, the order of its steps, and the comparison."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from typer.testing import CliRunner, Result

from rackwright import terminal
from rackwright.audit import evidence
from rackwright.cli import project, pulumi, rebuild
from rackwright.cli.app import app
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.log import digests
from tests.support import recorded_facts
from tests.support.diagnostics import sentences

HOSTS = ("gpu-01", "gpu-02")


class Lab:
    """A project with a stack of two hosts. It records the steps of the command, and has the facts of the hosts."""

    def __init__(self, directory: Path) -> None:
        tiers = {"hot": SimpleNamespace(mount="/srv/hot")}
        hosts = {"gpu-01": SimpleNamespace(tiers=tiers), "gpu-02": SimpleNamespace(tiers={})}
        self.stack = SimpleNamespace(
            name="lab",
            project=directory,
            twin="lab",
            maintenance={},
            lock=None,
            fleet=SimpleNamespace(hosts=hosts, uses=None),
            unknown_host_errors=lambda *names: [Diagnostic("stack", f"no host {n}") for n in names if n not in hosts],
        )
        self.steps: list[Any] = []
        self.raw = {name: recorded_facts.raw(recorded_facts.TODAY) for name in HOSTS}
        self.status = 0

    def facts(self, host: str) -> Facts:
        return Facts(copy.deepcopy(self.raw[host]))

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["rebuild", "lab", *arguments])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    lab = Lab(tmp_path)

    @contextmanager
    def connect(stack: object) -> Iterator[Lab]:
        yield lab

    def up(stack: str, selection: pulumi.Selection, *, yes: bool, stdout: IO[str] | None) -> int:
        print("pulumi's own lines", file=stdout)
        lab.steps.append(("up", yes, tuple(selection.hosts)))
        return lab.status

    monkeypatch.setattr(project, "stack", lambda name: lab.stack)
    monkeypatch.setattr(project, "connect_hosts", connect)
    monkeypatch.setattr(evidence, "from_hosts", lambda pool, names, progress: {n: lab.facts(n) for n in names})
    monkeypatch.setattr(rebuild, "_make_blank", lambda stack, hosts: lab.steps.append(("blank", tuple(hosts))))
    monkeypatch.setattr(rebuild.twin_commands, "stacks_of_twin", lambda stack: iter(["lab", "training"]))
    monkeypatch.setattr(pulumi, "check", lambda stack: 2)
    monkeypatch.setattr(pulumi, "up", up)
    monkeypatch.setattr(digests, "of_stack", lambda stack: {})
    return lab


def test_equal_facts_end_with_0_and_a_hash_that_the_next_rebuild_prints_again(lab: Lab) -> None:
    first, second = lab.run("--yes"), lab.run("--yes")

    assert (first.exit_code, second.exit_code) == (0, 0), first.exception
    assert lab.steps == [("blank", ()), ("up", True, ())] * 2
    assert "facts are as before\n" in first.stdout
    assert first.stdout.splitlines()[-1].startswith("hash of the facts: sha256:")
    assert first.stdout == second.stdout


def test_a_fact_that_differs_is_shown_and_ends_with_1(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def blank(stack: object, hosts: object) -> None:
        lab.raw["gpu-02"]["identity"]["hostname"] = "other"

    monkeypatch.setattr(rebuild, "_make_blank", blank)
    result = lab.run("--yes", "--json")

    assert result.exit_code == 1
    hosts = json.loads(result.stdout)["hosts"]
    assert hosts["gpu-01"]["differences"] == []
    assert hosts["gpu-02"]["differences"] == ['identity.hostname: "gpu-01" before, "other" now']


def test_one_host_leaves_the_others_and_the_state_alone(lab: Lab) -> None:
    result = lab.run("--yes", "gpu-02")

    assert result.exit_code == 0, result.exception
    assert lab.steps == [("blank", ("gpu-02",)), ("up", True, ("gpu-02",))]
    assert "gpu-01" not in result.stdout


def test_the_question_names_the_data_that_is_lost(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []
    monkeypatch.setattr(terminal, "require", lambda help: None)
    monkeypatch.setattr(terminal, "confirm", lambda question: bool(questions.append(question)))
    result = lab.run()

    assert result.exit_code == 2
    assert questions == [
        "Delete the disks of gpu-01, gpu-02 of the twin lab with all data, also in gpu-01:/srv/hot,"
        " and the states of lab, training, and provision again?"
    ]
    assert lab.steps == []


def test_a_failed_rebuild_of_one_host_names_that_host(lab: Lab) -> None:
    lab.status = 4

    assert "`rackwright rebuild lab gpu-02 --before " in lab.run("--yes", "gpu-02").stderr


def test_a_host_that_does_not_answer_is_not_compared_with_an_earlier_rebuild(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.run("--yes")
    gone = HostUnreachable(Diagnostic("gpu-02", "it does not answer"))
    monkeypatch.setattr(evidence, "from_hosts", lambda *_: {"gpu-01": lab.facts("gpu-01"), "gpu-02": gone})

    assert json.loads(lab.run("--yes", "--json").stdout)["hosts"]["gpu-02"]["differences"] is None


def test_a_directory_without_facts_of_a_host_deletes_nothing(lab: Lab) -> None:
    lab.run("--yes", "gpu-01")
    lab.steps.clear()
    result = lab.run("--yes", "--before", str(lab.stack.project / ".rackwright/rebuilds/lab"))

    assert isinstance(result.exception, ChangeRefused)
    assert "the directory has no facts of gpu-02" in sentences(result.exception.render())
    assert lab.steps == []


def test_a_failed_up_names_the_facts_from_before(lab: Lab) -> None:
    lab.status = 4
    result = lab.run("--yes")

    folder = lab.stack.project / ".rackwright/rebuilds/lab"
    assert result.exit_code == 4
    assert f"rackwright rebuild lab --before {folder}" in result.stderr
    assert sorted(path.name for path in folder.iterdir()) == [*HOSTS]


@pytest.mark.parametrize(
    ("change", "arguments", "kind", "problem"),
    [
        ({}, ["--yes", "gpu-9"], DeclarationError, "no host gpu-9"),
        ({}, [], ChangeRefused, "stdin is no terminal"),
        ({"twin": None}, ["--yes"], ChangeRefused, "its target is `rack`, whose hosts rackwright cannot reinstall"),
        (
            {"maintenance": {"gpu-01": "in maintenance"}},
            ["--yes", "gpu-01"],
            ChangeRefused,
            "the host is in maintenance",
        ),
        (
            {"fleet": SimpleNamespace(hosts={}, uses="rack.yaml")},
            ["--yes"],
            ChangeRefused,
            "the stack has runs or servers",
        ),
    ],
)
def test_a_refusal_deletes_nothing(lab: Lab, change: Any, arguments: list[str], kind: type, problem: str) -> None:
    vars(lab.stack).update(change)
    result = lab.run(*arguments)

    assert isinstance(result.exception, kind)
    assert problem in sentences(result.exception.render())
    assert lab.steps == []


def test_an_incomplete_local_repository_deletes_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def incomplete(stack: object) -> int:
        raise ChangeRefused(Diagnostic("repository", "the local repository is incomplete"))

    monkeypatch.setattr(pulumi, "check", incomplete)

    assert isinstance(lab.run("--yes").exception, ChangeRefused)
    assert lab.steps == []


def test_a_rack_keeps_its_disks_and_up_asks_there(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.run("--yes")
    lab.steps.clear()
    lab.stack.twin = None
    monkeypatch.setattr(terminal, "require", lambda help: None)
    result = lab.run("--before", str(lab.stack.project / ".rackwright/rebuilds/lab"))

    assert result.exit_code == 0, result.exception
    assert lab.steps == [("up", False, ())]


def test_a_host_without_earlier_facts_is_not_called_equal() -> None:
    facts = recorded_facts.facts(recorded_facts.TODAY)
    lines = list(rebuild.format_results(rebuild.compare({}, {"gpu-01": facts})))

    assert lines[0].endswith("facts, and none from before to compare with")

"""The lists of stacks and of the hosts of a stack, and what a shell completes."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from rackwright.audit.report import AuditResult, UndeclaredThing
from rackwright.cli import stacks, status
from rackwright.cli.app import app
from rackwright.cli.status import HostRow
from rackwright.core.contract import Difference, UnknownValue
from tests.support.log import ROOT

DIFFERS = Difference("md:hot", "bitmap", "internal", "none")
UNREAD = Difference("md:hot", "level", "raid10", UnknownValue("no answer"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "stacks").mkdir()
    (tmp_path / "Pulumi.yaml").write_text("name: rackwright\nruntime: python\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "stacks"


def settings(folder, name, fleet):
    (folder / f"Pulumi.{name}.yaml").write_text(
        f"config: {{'rackwright:fleet': {fleet}, 'rackwright:target': 'twin:{name}'}}\n"
    )


def test_stacks_are_listed_with_targets_and_a_wrong_one_with_its_errors(here):
    (here / "rack.yaml").write_text((ROOT / "stacks/rack.yaml").read_text())
    (here / "broken.yaml").write_text("fleet: broken\nhosts: {a: {tires: 3}}\n")
    settings(here, "lab", "rack.yaml")
    settings(here, "bad", "broken.yaml")

    listed = CliRunner().invoke(app, ["stacks", "--json"])

    assert listed.exit_code == 2
    bad, lab = json.loads(listed.stdout)["stacks"]
    assert (bad["stack"], bad["target"], bad["problem"]) == ("bad", "twin:bad", "4 errors in its fleet")
    assert lab == {"stack": "lab", "target": "twin:lab", "fleet": "rack.yaml", "hosts": 2, "problem": ""}


def test_a_shell_completes_stacks_and_hosts(here):
    (here / "rack.yaml").write_text((ROOT / "stacks/rack.yaml").read_text())
    settings(here, "lab", "rack.yaml")
    settings(here, "lab-full", "rack.yaml")
    settings(here, "rack", "rack.yaml")

    assert stacks.complete("la") == ["lab", "lab-full"]
    assert stacks.complete_host("lab", "gpu") == ["gpu-01", "gpu-02"]
    assert stacks.complete_host("absent", "") == []


def test_nothing_is_completed_outside_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert stacks.complete("") == []


@pytest.mark.parametrize(
    ("results", "row"),
    [
        ([AuditResult("a", "t", 3), AuditResult("a/hot", "t", 2)], HostRow("a", 2, "as declared")),
        ([AuditResult("a", "t", 3, (DIFFERS, UNREAD))], HostRow("a", 1, "1 differ, 1 unknown")),
        ([AuditResult("a", "t", 0, not_reached="no answer")], HostRow("a", 1, "not reached")),
        (
            [AuditResult("a", "t", 0, notice="in maintenance"), AuditResult("a/hot", "t", 0, notice="in maintenance")],
            HostRow("a", 2, "not compared", ("a: in maintenance", "hot: in maintenance")),
        ),
    ],
)
def test_a_host_is_never_as_declared_unless_it_was_compared(results, row):
    assert status.host_rows(results) == [row]


def test_the_last_change_is_the_newest_of_the_history():
    history = [{"kind": "update", "startTime": "2026-11-28T08:01:02.000Z", "result": "failed"}, {"kind": "destroy"}]

    assert status.last_change(history) == {
        "started_at": "2026-11-28T08:01:02+00:00",
        "kind": "update",
        "result": "failed",
    }
    assert status.last_change([]) is None


def test_a_host_with_undeclared_things_is_not_as_declared() -> None:
    found = UndeclaredThing("a", "RW-034", "crontab:root", "1 commands", "warning", "Remove the job", None)
    items = (found, replace(found, allowed="the site's"), replace(found, is_unknown=True), replace(found, host="b"))

    assert status.host_rows([AuditResult("a", "t", 3)], items) == [HostRow("a", 1, "1 undeclared, 1 unknown")]

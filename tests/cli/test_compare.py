"""`rackwright compare`: two snapshots of the same hosts."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.audit import evidence
from rackwright.cli import project
from rackwright.cli.app import app
from rackwright.errors import DeclarationError, Diagnostic, HostUnreachable
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from tests.support.recorded_hosts import STACK, recorded

HOST, OTHER = STACK.fleet.hosts


def save(directory: Path, raw: dict[str, Any], host: str = HOST, days_ago: int = 0) -> Path:
    return snapshot.save(directory, host, Facts(raw), datetime.now(UTC) - timedelta(days=days_ago))


def changed() -> dict[str, Any]:
    """Return facts of the host with another mode of a file, a new package, and a unit in another state."""
    raw = recorded(HOST)
    path = next(path for path, value in raw["files"].items() if "mode" in value)
    raw["files"][path]["mode"] = "0666"
    raw["packages"]["netcat"] = "1.0\x1b[2J"
    raw["units"][next(iter(raw["units"]))]["active"] = "failed"
    return raw


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["compare", *arguments], catch_exceptions=False)


def test_equal_snapshots_have_no_difference(tmp_path):
    for name in ("before", "after"):
        save(tmp_path / name, recorded(HOST))

    done = run(str(tmp_path / "before"), str(tmp_path / "after"))

    assert (done.exit_code, done.stdout) == (0, "1 host compared, 0 facts differ\n")


def test_each_difference_has_its_path_and_both_values(tmp_path):
    before, after = save(tmp_path / "before", recorded(HOST)), save(tmp_path / "after", changed())

    done = run(str(before), str(after), "--json")
    changes = json.loads(done.stdout)["changes"]

    assert done.exit_code == 1
    assert [(each["host"], each["path"].rpartition(".")[2], each["after"]) for each in changes] == [
        (HOST, "mode", "0666"),
        (HOST, "netcat", "1.0\x1b[2J"),
    ]
    assert "before" not in changes[1]
    text = run(str(before), str(after)).stdout
    assert "packages.netcat\n  before  absent\n  after   1.0\\x1b[2J\n" in text
    every = json.loads(run(str(before), str(after), "--all", "--json").stdout)["changes"]
    assert [each["after"] for each in every if each["path"].endswith(".active")] == ["failed"]


def test_a_host_that_one_side_lacks_is_not_compared(tmp_path):
    save(tmp_path / "before", recorded(HOST))
    save(tmp_path / "before", recorded(OTHER), OTHER)
    save(tmp_path / "after", recorded(HOST))

    done = run(str(tmp_path / "before"), str(tmp_path / "after"))

    assert done.exit_code == 3
    assert f"{OTHER}: not compared: the host is missing later" in done.stdout
    assert run(str(tmp_path / "before" / HOST), str(tmp_path / "after" / HOST)).exit_code == 0


def test_a_stack_in_the_place_of_a_snapshot_reads_its_hosts(tmp_path, monkeypatch):
    gone = HostUnreachable(Diagnostic(OTHER, "no answer"))
    monkeypatch.setattr(project, "stack", lambda name: STACK)
    monkeypatch.setattr(project, "is_twin_off", lambda stack: False)
    monkeypatch.setattr(evidence, "from_hosts", lambda *_: {HOST: Facts(changed()), OTHER: gone})
    save(tmp_path, recorded(HOST))
    save(tmp_path, recorded(OTHER), OTHER)

    done = run(str(tmp_path), "lab", "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["missing"] == {OTHER: f"{OTHER}: no answer."}


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_a_place_without_snapshots_is_refused(tmp_path, place):
    (tmp_path / "empty").mkdir()

    with pytest.raises(DeclarationError, match="snapshots"):
        run(str(tmp_path / place), str(tmp_path / place))

"""The operations log under the real pulumi: plain, and below the commands of rackwright."""

from pathlib import Path

import pytest

from rackwright.log.chain import check
from tests.pulumi.test_plugin import obey
from tests.pulumi.test_plugin import project as project  # noqa: PLC0414 - pytest finds a fixture by its name
from tests.pulumi.test_questions import piped

pytestmark = pytest.mark.pulumi


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the log."""
    monkeypatch.setenv("RACKWRIGHT_LOG", str(tmp_path / "log"))
    return tmp_path / "log/operations.jsonl"


def test_plain_pulumi_writes_to_the_operations_log(project, log):
    """
    Up has an entry before its first step and another after the last one; with a log that is broken, no step runs.
    """
    obey(project.host)
    log.parent.mkdir()
    log.write_bytes(b"{}\n")
    refused = project.pulumi("up", "--yes", "--skip-preview")
    assert refused.status != 0 and "the log is not whole: line 1: edited" in refused.text
    assert project.host.steps == []
    log.unlink()

    done = project.pulumi("up", "--yes", "--skip-preview")
    assert done.status == 0, done.text
    chain = check(log.read_bytes())
    assert chain.broken is None
    began, ended = (entry for entry in chain.entries if entry.get("resource") == "gpu-01/hot")
    assert (began["event"], began["command"], began["hosts"]) == ("began", "create", ["gpu-01"])
    assert (ended["event"], ended["outcome"], ended["parent"]) == ("ended", "done", None)
    steps = began["planned"][0]["steps"]
    assert steps and ended["completed"][0]["steps_done"] == len(steps)
    assert {"declaration", "code"} <= began["digests"].keys()
    assert [step["text"] for step in project.host.steps] == steps


def test_entries_of_the_provider_name_the_command_above_them(project, log):
    """
    Up has the first and the last entry, and each outcome; with a log that is broken, a command changes nothing.
    """
    obey(project.host)
    done = piped(project, "up", "lab", "--yes")
    assert done.returncode == 0, done.stderr
    first, *between, last = check(log.read_bytes()).entries[1:]

    assert (first["event"], first["command"], first["stack"], first["parent"]) == ("began", "up", "lab", None)
    assert "gpu-01/hot" in [change["resource"] for change in first["planned"]]
    assert (last["event"], last["operation"], last["exit_status"]) == ("ended", first["operation"], 0)
    outcomes = {each["resource"]: each["outcome"] for each in last["completed"]}
    assert outcomes["gpu-01/hot"] == "done"
    assert between and {entry["parent"] for entry in between} == {first["operation"]}
    assert first["digests"] == between[0]["digests"]

    steps = len(project.host.steps)
    log.write_bytes(log.read_bytes()[:-100] + b"\n")
    refused = piped(project, "destroy", "lab", "--yes")
    assert refused.returncode == 2 and "error[log-not-written]" in refused.stderr
    assert len(project.host.steps) == steps

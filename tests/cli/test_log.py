"""The commands of the operations log, and the list of the commands that write to it."""

import ast
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rackwright import terminal
from rackwright.cli.app import app
from rackwright.cli.recording import current_log
from rackwright.errors import ChangeRefused, DeclarationError
from rackwright.log.chain import check
from rackwright.log.writer import OperationsLog
from tests.support.operations_log import new_key

ROOT = Path(__file__).parents[2]
RECORDED = {
    *(
        "adopt",
        "alert deliver",
        "alert expire",
        "alert silence",
        "audit",
        "backup",
        "cert",
        "cluster exec",
        "destroy",
        "drive erase",
        "drive replace",
        "enrol",
        "host forget",
    ),
    *(
        "host reidentify",
        "inventory",
        "mask",
        "quarantine end",
        "rebuild",
        "registry push",
        "restore",
        "run stop",
        "secret generate",
        "secret set",
        "server iterate",
    ),
    *("server promote", "server rollback", "tier bench", "tier move", "twin reset", "up"),
}
"""Commands that write entries."""
WITHOUT_ENTRIES = {
    "check": "reads files",
    "compare": "reads snapshots and hosts",
    "digests": "prints keyed digests",
    "alert list": "reads Alertmanager",
    "quarantine list": "reads the monitoring host",
    "alert test": "sends a message that changes nothing",
    "dashboards": "writes files on this computer",
    "discover": "reads hosts, and writes lines for a fleet",
    "doctor": "reads this computer",
    "drive certificate": "verifies a file",
    "drive locate": "blinks a light",
    "env": "prints variables",
    "explain": "prints documentation",
    "federation status": "reads files",
    "federation verify": "reads files",
    "gpu top": "reads hosts",
    "host qualify": "measures",
    "init": "writes files that Git records",
    "journal": "reads hosts",
    "lineage": "reads a registry or files",
    "privacy ledger": "reads files of this computer",
    "privacy receipt": "writes files of this computer, which are signed",
    "lock": "writes a file that Git records",
    "log export": "reads the log",
    "log add-key": "is an entry of its own",
    "log accept": "is an entry of its own",
    "log revoke-key": "is an entry of its own",
    "log push": "copies a head",
    "log restart": "is an entry of its own",
    "log show": "reads the log",
    "log verify": "reads the log",
    "preview": "reads hosts",
    "run logs": "reads hosts",
    "run recipes": "prints configurations",
    "run status": "reads hosts",
    "run wait": "reads hosts",
    "schema": "prints a schema",
    "server fetch": "fetches files to this computer",
    "server image": "writes files to a directory",
    "server logs": "reads hosts",
    "server status": "reads hosts",
    "stacks": "reads files",
    "status": "reads hosts",
    "tier plan": "reads a directory and a bucket",
    "tier restore": "writes a new directory of this computer",
    "tier test": "notes its result in the bucket itself",
    "tier verify": "reads a bucket",
    "toolchain": "installs programs on this computer",
    "twin console": "is a twin's",
    "twin fault": "is a twin's",
    "twin ssh": "is a twin's",
    "twin start": "is a twin's",
    "twin status": "is a twin's",
    "twin stop": "is a twin's",
    "upgrade": "writes files that Git records",
}
"""Commands without entries, and why."""


def commands(group: Any, *names: str) -> Iterator[str]:
    below = getattr(group, "commands", None)
    if below is None:
        yield " ".join(names)
        return
    for name, command in below.items():
        yield from commands(command, *names, name)


def recorded_names() -> set[str]:
    """Return the names that the code of the commands passes to the writer of entries."""
    calls = (
        node
        for path in sorted((ROOT / "rackwright/cli").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute)
    )
    writers = ("record", "note", "_replace_model")
    named = (node for node in calls if getattr(node.func, "attr", getattr(node.func, "id", "")) in writers)
    return {arg.value for node in named for arg in node.args[:1] if isinstance(arg, ast.Constant)}


def test_every_command_writes_entries_or_has_a_reason_not_to() -> None:
    assert {*commands(typer.main.get_command(app))} == RECORDED | {*WITHOUT_ENTRIES}


def test_each_command_that_writes_entries_calls_the_writer() -> None:
    assert recorded_names() >= RECORDED


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OperationsLog:
    monkeypatch.setenv("RACKWRIGHT_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("RACKWRIGHT_LOG_KEY", str(new_key(tmp_path / "key")))
    monkeypatch.delenv("RACKWRIGHT_LOG_HEADS", raising=False)
    log = current_log()
    planned: Any = [{"host": "a", "resource": "a/hot", "change": "create", "steps": [], "destroys": []}]
    log.append("began", {"operation": "1", "command": "up", "stack": "lab", "planned": planned})
    log.append("ended", {"operation": "1", "command": "up", "stack": "lab", "completed": [], "outcome": "done"})
    log.append("began", {"operation": "2", "command": "destroy", "stack": "rack", "planned": []})
    return log


def run(*arguments: str, status: int = 0) -> Any:
    result = CliRunner().invoke(app, ["log", *arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return json.loads(result.stdout) if "--json" in arguments else result.output


def edit(log: OperationsLog) -> None:
    log.path.write_bytes(log.path.read_bytes().replace(b'"command":"up"', b'"command":"uq"', 1))


def test_show_prints_operations_and_selects(log: OperationsLog) -> None:
    assert [line.split("  ")[-1] for line in run("show").splitlines()] == [
        f"log {check(log.path.read_bytes()).state.log} started",
        "up lab: done",
        "a/hot: create",
        "destroy rack: no end: it still runs, or was killed",
    ]
    assert [entry["sequence"] for entry in run("show", "--host", "a", "--json")["entries"]] == [1]
    assert [entry["sequence"] for entry in run("show", "--stack", "rack", "--json")["entries"]] == [3]
    assert run("show", "--actor", "somebody", "--json")["entries"] == []
    assert run("show", "--until", "2020-01-01", "--json")["entries"] == []
    assert len(run("show", "--since", "2020-01-01", "--json")["entries"]) == 4


def test_verify_of_a_whole_log(log: OperationsLog) -> None:
    document = run("verify", "--json")

    assert (document["entries"], document["broken"], document["unfinished"]) == (4, None, [3])
    assert "4 entries, whole" in run("verify")
    assert "entry 3: destroy rack has no end" in run("verify")


def test_a_broken_log_ends_with_1_and_its_place(log: OperationsLog) -> None:
    edit(log)
    document = run("verify", "--json", status=1)

    assert (document["broken"]["sort"], document["broken"]["line"], document["entries"]) == ("edited", 2, 1)
    assert "line 2: edited" in run("verify", status=1)
    assert "line 2: edited" in run("show", status=1)
    assert "line 2: edited" in run("export", str(log.directory / "export"), status=1)


def test_a_cut_end_shows_against_the_second_place(log: OperationsLog, tmp_path: Path) -> None:
    heads = str(tmp_path / "heads")
    assert "no head of log" in run("verify", "--heads", heads, status=1)
    assert run("push", "--to", heads, "--json")["sequence"] == 3
    assert run("verify", "--heads", heads, "--json")["heads"][0]["copied"] == 3
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:-1]))

    assert "truncated" in run("verify", "--heads", heads, status=1)
    assert run("verify", "--json")["broken"] is None


def test_a_place_that_is_not_reached_ends_with_3(log: OperationsLog, tmp_path: Path) -> None:
    document = run("verify", "--heads", f"git+file://{tmp_path}/absent", "--json", status=3)

    assert (document["broken"], document["heads"][0]["reached"]) == (None, False)


def test_an_exported_log_is_verified_without_the_project(log: OperationsLog, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    assert run("export", str(folder), "--json")["entries"] == 4
    ssh_keygen = ["ssh-keygen", "-Y", "verify", "-n", "rackwright-log", "-I", "operations-log"]
    files = ["-f", folder / "signers", "-s", folder / "head.json.sig"]
    with (folder / "head.json").open("rb") as head:
        assert subprocess.run([*ssh_keygen, *files], stdin=head, capture_output=True).returncode == 0
    log.path.unlink()

    assert run("verify", str(folder / "operations.jsonl"), "--signers", str(folder / "signers"), "--json")["keys"]
    new_key(tmp_path / "other")
    other = tmp_path / "other.pub"
    other.write_text(f"auditor {other.read_text()}\n")
    assert "unknown_key" in run("verify", str(folder / "operations.jsonl"), "--signers", str(other), status=1)


def test_a_key_is_rotated(log: OperationsLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_key(tmp_path / "fresh")
    run("add-key", str(tmp_path / "fresh.pub"))
    old, fresh = check(log.path.read_bytes()).state.keys
    monkeypatch.setenv("RACKWRIGHT_LOG_KEY", str(tmp_path / "fresh"))
    printed = run("revoke-key", old, "--reason", "stolen")

    assert f"it has added {fresh}" in printed
    assert check(log.path.read_bytes()).state.keys[old].revoked_at == 5
    assert run("verify", "--json")["broken"] is None


@pytest.mark.parametrize("fingerprint", ["SHA256:other", "own"])
def test_a_key_that_is_not_there_or_is_the_last_one_is_not_revoked(log: OperationsLog, fingerprint: str) -> None:
    [own] = check(log.path.read_bytes()).state.keys
    name = own if fingerprint == "own" else fingerprint
    result = CliRunner().invoke(app, ["log", "revoke-key", name, "--reason", "x"])

    assert isinstance(result.exception, DeclarationError)
    assert len(check(log.path.read_bytes()).entries) == 4


def test_a_key_that_is_there_is_not_added_again(log: OperationsLog, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["log", "add-key", str(tmp_path / "key.pub")])

    assert isinstance(result.exception, DeclarationError) and "the log has the key" in str(result.exception)


def test_a_broken_log_is_set_aside_only_after_a_question(log: OperationsLog, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(log)
    before = log.path.read_bytes()
    run("restart", "--reason", "it was edited", status=2)
    assert log.path.read_bytes() == before
    monkeypatch.setattr(terminal, "confirm", lambda question: True)
    run("restart", "--reason", "it was edited")

    assert run("verify", "--json")["entries"] == 1
    [aside] = log.directory.glob("operations.*.jsonl")
    assert aside.read_bytes() == before


def test_without_a_log_the_error_names_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RACKWRIGHT_LOG", str(tmp_path / "log"))
    result = CliRunner().invoke(app, ["log", "verify"])

    assert isinstance(result.exception, ChangeRefused) and "there is no operations log" in str(result.exception)


def test_a_command_copies_its_head_and_a_place_that_fails_is_no_error(
    log: OperationsLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rackwright.cli import recording

    for place in (str(tmp_path / "heads"), str(tmp_path / "absent" / "heads")):
        monkeypatch.setenv("RACKWRIGHT_LOG_HEADS", place)
        with recording.record("backup", planned=[]):
            pass

    assert len((tmp_path / "heads").read_text().splitlines()) == 1
    assert "the head of the operations log is not copied" in capsys.readouterr().err


def test_a_command_below_another_names_it(log: OperationsLog) -> None:
    from rackwright.cli import recording

    with recording.record("rebuild", planned=[]) as outer, recording.record("up", planned=[]) as inner:
        pass

    entries = [entry for entry in check(log.path.read_bytes()).entries[4:] if entry["event"] == "began"]
    assert [(entry["operation"], entry["parent"]) for entry in entries] == [(outer.id, None), (inner.id, outer.id)]


def test_an_audit_goes_on_without_its_entry(
    log: OperationsLog, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rackwright.cli import recording
    from rackwright.log import digests

    edit(log)
    content = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(content[:2]))
    monkeypatch.setattr(digests, "of_stack", lambda stack: {})
    recording.note("audit", type("Stack", (), {"name": "lab"})(), ["a"], 0)  # type: ignore[arg-type]

    assert "the command is not in the operations log" in capsys.readouterr().err

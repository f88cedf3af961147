"""The output of a masking: what lies at the target is removed only if a report lists it, and else stays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused
from rackwright.masking import exchange, output
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
from tests.support.sources import ROOT

KEY = "0123456789abcdef" * 4
POLICY = "policy: p\nkey: {secret: masking_key}\ncolumns: {id: {rule: pseudonym}, ward: {rule: keep}}\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A directory with two files, one of them below."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "raw/below").mkdir(parents=True)
    (tmp_path / "raw/a.jsonl").write_text('{"id": 1, "ward": "A"}\n')
    (tmp_path / "raw/below/b.jsonl").write_text('{"id": 2, "ward": "A"}\n')
    return tmp_path / "raw"


def mask(source: Path, target: Path) -> None:
    root = next(each for each in source.parents if (each / "policy.yaml").exists())
    Masking(load_policy(root / "policy.yaml"), "policy.yaml", KEY).run(str(source), target)


def content(root: Path) -> dict[str, str]:
    """Return the text of each file below *root*, without the source and the policy."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {"raw", "policy.yaml"} & {*path.relative_to(root).parts}
    }


def test_a_second_masking_takes_the_place_of_the_first(raw: Path) -> None:
    target = raw.with_name("masked")
    mask(raw, target)
    first = content(raw.parent)
    (raw / "a.jsonl").rename(raw / "c.jsonl")
    mask(raw, target)

    assert [*first] == ["masked/a.jsonl", "masked/below/b.jsonl", "masked/masking.json"]
    assert [*content(raw.parent)] == ["masked/below/b.jsonl", "masked/c.jsonl", "masked/masking.json"]
    assert [each.name for each in raw.parent.iterdir() if each.name.startswith(".")] == []


def notes(target: Path) -> None:
    (target / "masking.json").write_text("notes, and no report")


def another_file(target: Path) -> None:
    (target / "thesis.txt").write_text("the only copy")


def an_empty_directory(target: Path) -> None:
    (target / "other").mkdir()


def a_changed_file(target: Path) -> None:
    (target / "below/b.jsonl").write_text("the only copy")


def a_missing_file(target: Path) -> None:
    (target / "a.jsonl").unlink()


def a_link(target: Path) -> None:
    (target / "a.jsonl").rename(target.with_name("moved"))
    (target / "a.jsonl").symlink_to(target.with_name("moved"))


def a_report_of_other_places(target: Path) -> None:
    report = json.loads((target / "masking.json").read_text())
    report["files"].append({"name": "../policy.yaml", "sha256": "0" * 64})
    (target / "masking.json").write_text(json.dumps(report))


CHANGES = [
    notes,
    another_file,
    an_empty_directory,
    a_changed_file,
    a_missing_file,
    a_link,
    a_report_of_other_places,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_a_directory_that_is_not_what_its_report_lists_stays(raw: Path, change: Callable[[Path], None]) -> None:
    target = raw.with_name("masked")
    mask(raw, target)
    change(target)
    before = content(raw.parent)
    with pytest.raises(ChangeRefused, match="it exists already, and"):
        mask(raw, target)
    assert content(raw.parent) == before


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__)
def test_a_directory_that_changes_during_the_masking_is_put_back(
    raw: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    target, publish = raw.with_name("masked"), output.Output.publish
    mask(raw, target)
    before: dict[str, str] = {}

    def changed(self: output.Output) -> None:
        change(target)
        before.update({name: text for name, text in content(raw.parent).items() if not name.startswith(".")})
        publish(self)

    monkeypatch.setattr(output.Output, "publish", changed)
    with pytest.raises(ChangeRefused, match="it changed, and"):
        mask(raw, target)
    assert content(raw.parent) == before
    assert [each.name for each in raw.parent.iterdir() if each.name.startswith(".")] == []


def test_a_target_that_appears_during_the_masking_stays(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, publish = raw.with_name("masked"), output.Output.publish

    def appears(self: output.Output) -> None:
        target.mkdir()
        (target / "other").write_text("of another account")
        publish(self)

    monkeypatch.setattr(output.Output, "publish", appears)
    with pytest.raises(ChangeRefused, match="it changed, and No such file"):
        mask(raw, target)
    assert content(raw.parent) == {"masked/other": "of another account"}


@pytest.mark.parametrize(("data", "report"), [("mine", ""), ("mine", "{}"), ("mine", None), (None, "mine")], ids=repr)
def test_a_file_that_is_not_what_its_report_lists_stays(raw: Path, data: str | None, report: str | None) -> None:
    target = raw.with_name("masked.jsonl")
    for path, text in ((target, data), (target.with_name("masked.jsonl.masking.json"), report)):
        if text is not None:
            path.write_text(text)
    before = content(raw.parent)
    with pytest.raises(ChangeRefused, match="it exists already, and"):
        mask(raw / "a.jsonl", target)
    assert content(raw.parent) == before


def test_a_file_and_a_directory_do_not_take_the_place_of_each_other(raw: Path) -> None:
    mask(raw, raw.with_name("masked"))
    mask(raw / "a.jsonl", raw.with_name("masked.jsonl"))
    before = content(raw.parent)
    with pytest.raises(ChangeRefused, match="it is a directory, and the source is a file"):
        mask(raw / "a.jsonl", raw.with_name("masked"))
    with pytest.raises(ChangeRefused, match="it is a file, and the source is a directory"):
        mask(raw, raw.with_name("masked.jsonl"))
    assert content(raw.parent) == before


def test_a_directory_that_another_account_moves_to_the_hidden_name_stays(raw: Path) -> None:
    """In a parent without the sticky bit, another account may rename all that lies in it."""
    shared = raw.with_name("shared")
    (shared / "own").mkdir(parents=True)
    (shared / "own/irreplaceable").write_text("x")
    with pytest.raises(KeyError), output.new_output(shared / "masked", True) as new:
        with new.create("a.jsonl") as file:
            file.write(b"1")
        [hidden] = shared.glob(".masked.*")
        hidden.rename(shared / "moved")
        (shared / "own").rename(hidden)
        raise KeyError
    assert [each.name for each in shared.rglob("*") if each.is_file()] == ["irreplaceable"]


def test_a_file_system_without_the_exchange_refuses_an_existing_target_alone(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, directory: int, other: int, flags: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(exchange, "_rename", fail)
    for source, name in ((raw, "masked"), (raw / "a.jsonl", "masked.jsonl")):
        mask(source, raw.with_name(name))
        before = content(raw.parent)
        with pytest.raises(ChangeRefused, match="cannot exchange two names in one step"):
            mask(source, raw.with_name(name))
        assert content(raw.parent) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from rackwright.masking import exchange, output
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
number, policy, source, target = sys.argv[1:]
calls, rename = [], exchange._rename
def kill(name, directory, other, flags):
    calls.append(name)
    if len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(name, directory, other, flags)
    if len(calls) == int(number) - 1:
        os.kill(os.getpid(), signal.SIGKILL)
exchange._rename = kill
Masking(load_policy(Path(policy)), "", "k" * 40).run(source, Path(target))
"""


@pytest.mark.parametrize("number", [1, 2])
def test_a_masking_that_is_killed_at_the_exchange_leaves_the_old_or_the_new_output(raw: Path, number: int) -> None:
    target = raw.with_name("masked")
    mask(raw, target)
    argv = [sys.executable, "-c", KILLED, str(number), str(raw.with_name("policy.yaml")), str(raw), str(target)]
    assert subprocess.run(argv, cwd=ROOT).returncode == -signal.SIGKILL
    masked = {os.fspath(each.relative_to(target)) for each in target.rglob("*.json*")}

    assert masked == {"a.jsonl", "below/b.jsonl", "masking.json"}
    mask(raw, target)

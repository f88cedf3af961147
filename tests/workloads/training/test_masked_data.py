"""Runs that declare masked data refuse other data before they read a row."""

import json
from pathlib import Path

import pytest

from workloads.errors import UserError
from workloads.masking_report import sha256_of
from workloads.training.config import Conversations, MaskedBy
from workloads.training.conversations import read

DIGEST = "a" * 64
ROW = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]}


def config(path: Path, digest: str = DIGEST) -> Conversations:
    masked_by = MaskedBy(policy="letters", sha256=digest)
    return Conversations(path=str(path), tokenizer="", sequence_length=64, masked_by=masked_by)


def write(directory: Path, report: Path, *names: str) -> None:
    """Write files, and the report of their masking."""
    for name in names:
        (directory / name).write_text(json.dumps(ROW) + "\n")
    files = [{"name": name, "records": 1, "sha256": sha256_of(directory / name)} for name in names]
    report.write_text(json.dumps({"policy": "letters", "policy_sha256": DIGEST, "files": files}))


def test_data_with_their_report_are_read(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "masking.json", "a.jsonl", "b.jsonl")
    assert len(list(read(config(tmp_path)))) == 2
    write(tmp_path, tmp_path / "a.jsonl.masking.json", "a.jsonl")
    assert len(list(read(config(tmp_path / "a.jsonl")))) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: path.with_name("a.jsonl.masking.json").unlink(), "there is no report a.jsonl.masking.json"),
        (lambda path: path.write_text(path.read_text() * 2), "the files are not those of the report"),
        (lambda path: path.with_name("a.jsonl.masking.json").write_text("[]"), "the report is damaged"),
        (lambda path: path.with_name("a.jsonl.masking.json").write_text("{}"), "the report is of another policy"),
    ],
)
def test_other_data_are_refused(tmp_path: Path, change: object, problem: str) -> None:
    write(tmp_path, tmp_path / "a.jsonl.masking.json", "a.jsonl")
    assert callable(change)
    change(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=problem) as refused:
        next(read(config(tmp_path / "a.jsonl")))
    assert "data with their report of the policy letters" in str(refused.value)


def test_data_of_another_policy_are_refused(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "a.jsonl.masking.json", "a.jsonl")
    with pytest.raises(UserError, match="the report is of another policy"):
        next(read(config(tmp_path / "a.jsonl", "b" * 64)))


def test_a_file_that_changes_after_the_comparison_gives_no_row(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "masking.json", "a.jsonl", "b.jsonl")
    rows = read(config(tmp_path))
    next(rows)
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": [{"role": "assistant", "content": "Anna"}]}) + "\n")
    with pytest.raises(UserError, match="changed after its digest was compared"):
        next(rows)


def test_a_file_that_the_masking_did_not_make_is_refused(tmp_path: Path) -> None:
    write(tmp_path, tmp_path / "masking.json", "a.jsonl")
    (tmp_path / "raw.jsonl").write_text(json.dumps(ROW) + "\n")
    with pytest.raises(UserError, match="the files are not those of the report"):
        next(read(config(tmp_path)))

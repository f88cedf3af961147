"""The check without the key: each planted leak is found, and masked data have none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rackwright.masking.check import MaskingCheck, check_data
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
from tests.support.planted_leaks import POLICY, VALUES, raw_records, write_lines
from workloads.masking_report import sha256_of

KEY = "0123456789abcdef" * 4


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    """Masked records beside their report."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    write_lines(tmp_path / "raw.jsonl", raw_records())
    target = tmp_path / "masked.jsonl"
    Masking(load_policy(tmp_path / "policy.yaml"), "", KEY).run(str(tmp_path / "raw.jsonl"), target)
    return target


def check(target: Path) -> MaskingCheck:
    return check_data(load_policy(target.parent / "policy.yaml"), str(target))


def rewrite(target: Path, records: list[dict[str, Any]]) -> None:
    """Write *records* with a report that fits them, so that the values alone show the leak."""
    write_lines(target, records)
    report = target.with_name(f"{target.name}.masking.json")
    content = json.loads(report.read_text())
    content["files"] = [{"name": target.name, "records": len(records), "sha256": sha256_of(target)}]
    report.write_text(json.dumps(content))


def test_masked_data_have_no_finding(masked: Path) -> None:
    assert check(masked)["findings"] == []


@pytest.mark.parametrize("name", VALUES)
def test_a_planted_leak_is_found_and_not_quoted(masked: Path, name: str) -> None:
    records = [json.loads(line) for line in masked.read_text().splitlines()]
    VALUES[name](records[7])
    rewrite(masked, records)
    findings = check(masked)["findings"]
    of_values = [each for each in findings if each["column"] != "quasi_identifiers"]

    if name == "one record of another ward":
        assert not of_values and len(findings) == 2
    else:
        assert [each["count"] for each in of_values] == [1] and "record 8" in of_values[0]["place"]
    assert "13800138000" not in json.dumps(findings) and "P7" not in json.dumps(findings)


def test_a_missing_other_or_changed_report_is_found(masked: Path) -> None:
    report = masked.with_name("masked.jsonl.masking.json")
    text = report.read_text()

    def problems() -> list[str]:
        return [each["problem"] for each in check(masked)["findings"] if each["column"] == "report"]

    report.unlink()
    assert problems() == ["there is no report masked.jsonl.masking.json"]
    report.write_text("{")
    assert problems() == ["the report is damaged"]
    report.write_text(text)
    masked.write_text(masked.read_text() + "\n")
    assert problems() == ["the files are not those of the report"]
    policy = masked.parent / "policy.yaml"
    policy.write_text(policy.read_text().replace("k: 3", "k: 4"))
    assert problems() == ["the report is of another policy"]


def test_another_file_in_a_masked_directory_is_found(masked: Path) -> None:
    raw, target = masked.parent / "raw", masked.parent / "all"
    raw.mkdir()
    write_lines(raw / "a.jsonl", raw_records())
    Masking(load_policy(masked.parent / "policy.yaml"), "", KEY).run(str(raw), target)
    assert check(target)["findings"] == []
    (target / "b.jsonl").write_bytes((target / "a.jsonl").read_bytes())
    assert [each["problem"] for each in check(target)["findings"]] == ["the files are not those of the report"]


def test_statistics_dictionaries_and_metadata_of_parquet_are_found(masked: Path) -> None:
    records = [json.loads(line) for line in masked.read_text().splitlines()]
    path = masked.with_name("masked.parquet")
    parquet.write_table(pa.Table.from_pylist(records).replace_schema_metadata({"note": "x"}), path)
    problems = {each["problem"] for each in check(path)["findings"] if each["column"] == "file"}

    assert problems == {"Parquet has statistics", "Parquet has a dictionary", "Parquet has metadata"}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda data, created, footer: data, None),
        (
            lambda data, created, footer: data.replace(
                created, b"Anna Schmidt 13800138000"[: len(created)].ljust(len(created))
            ),
            "another program as its writer",
        ),
        (
            lambda data, created, footer: data[:-footer] + b"Anna Schmidt" + data[-footer:],
            "bytes outside of its columns",
        ),
    ],
)
def test_bytes_of_parquet_beside_its_columns_are_found(
    masked: Path, change: Callable[[bytes, bytes, int], bytes], problem: str | None
) -> None:
    raw, path = masked.with_name("raw.parquet"), masked.with_name("masked.parquet")
    parquet.write_table(pa.Table.from_pylist(raw_records()), raw)
    Masking(load_policy(masked.parent / "policy.yaml"), "", KEY).run(str(raw), path)
    whole = path.read_bytes()
    created, footer = parquet.ParquetFile(path).metadata.created_by.encode(), int.from_bytes(whole[-8:-4], "little") + 8
    path.write_bytes(change(whole, created, footer))
    problems = {each["problem"] for each in check(path)["findings"] if each["column"] == "file"}

    assert problems == ({f"Parquet has {problem}"} if problem else set())


def test_too_few_equal_records_are_found(masked: Path) -> None:
    records = [json.loads(line) for line in masked.read_text().splitlines()]
    for record in records:
        record["zip"] = "11*"
    rewrite(masked, records)

    assert [each["column"] for each in check(masked)["findings"]] == ["quasi_identifiers"]

"""k-anonymity and l-diversity of records whose author wants groups to look larger or more diverse than they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import ChangeRefused
from rackwright.masking.check import check_data
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking

KEY = "0123456789abcdef" * 4
POLICY = """\
policy: p
key: {secret: masking_key}
columns:
  id: {rule: pseudonym}
  visit: {rule: keep}
  diagnosis: {rule: keep}
  zip: {rule: keep}
  patient.zip: {rule: keep}
quasi_identifiers: {columns: [%s], k: 2%s}
"""
SENSITIVE = ", sensitive: diagnosis, l: 2"


def mask(directory: Path, policy: str, records: list[dict[str, Any]]) -> Any:
    (directory / "policy.yaml").write_text(policy)
    (directory / "raw.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    loaded = load_policy(directory / "policy.yaml")
    report = Masking(loaded, "policy.yaml", KEY).run(str(directory / "raw.jsonl"), directory / "masked.jsonl")
    assert check_data(loaded, str(directory / "masked.jsonl"))["findings"] == []
    return report


@pytest.mark.parametrize(
    ("columns", "more", "records"),
    [
        ("zip", "", [{"zip": "8000"}, {"zip": 8000}]),
        ("zip", "", [{"zip": "True"}, {"zip": True}]),
        ("zip", "", [{"zip": 1}, {"zip": 1.0}]),
        ("zip", "", [{"zip": None}, {"visit": 1}]),
        ("zip", "", [{"zip": None}, {"zip": ""}]),
        ("zip", "", [{"zip": "8000"}, {"zip": "8000\u200b"}]),
        ("zip", SENSITIVE, [{"zip": "1", "diagnosis": "HIV"}, {"zip": "1", "diagnosis": ""}]),
        ("zip", SENSITIVE, [{"zip": "1", "diagnosis": "HIV"}, {"zip": "1", "diagnosis": None}]),
        ("zip", SENSITIVE, [{"zip": "1", "diagnosis": "HIV"}, {"zip": "1"}]),
        ("zip", SENSITIVE, [{"zip": "1", "diagnosis": "HIV"}, {"zip": "1", "diagnosis": " hiv\u200b"}]),
        ("zip", SENSITIVE, [{"zip": "1", "diagnosis": 1}, {"zip": "1", "diagnosis": "1"}]),
        ("zip", ", person: id", [{"id": 1, "zip": "1"}, {"id": 1, "zip": "1"}]),
        ("zip", ", person: id", [{"id": 1, "zip": "1"}, {"id": None, "zip": "1"}]),
        ("zip", ", person: id", [{"id": 1, "zip": "1"}, {"zip": "1"}]),
    ],
)
def test_a_group_is_no_larger_and_no_more_diverse_than_its_output(
    tmp_path: Path, columns: str, more: str, records: list[dict[str, Any]]
) -> None:
    with pytest.raises(ChangeRefused, match="too few"):
        mask(tmp_path, POLICY % (columns, more), records)


@pytest.mark.parametrize(
    "record",
    [
        {"patient.zip": "8000", "patient": {"zip": "other"}},
        {"patient.zip": "8000", "patient": {}},
        {"": {"zip": "other"}, "zip": "8000"},
        {"": "8000"},
        {"patient": {"": {"zip": "other"}, "zip": "8000"}},
        {"patient": {"": "other"}},
        {"patient.zip": {"": "other"}},
        {"zip[]": "other"},
        {"patient.": {"zip": "other"}},
    ],
)
def test_a_path_has_one_place_in_a_record(tmp_path: Path, record: dict[str, Any]) -> None:
    with pytest.raises(ChangeRefused, match="1 value cannot be masked by its rule; keys that are not empty"):
        mask(tmp_path, POLICY % ("patient.zip", ""), [record])


def test_a_whole_path_is_a_key(tmp_path: Path) -> None:
    report = mask(tmp_path, POLICY % ("patient.zip", ""), [{"patient.zip": "8000"}, {"patient": {"zip": "8000"}}])
    assert report["anonymity"]["smallest"] == 2


def test_the_person_of_dates_is_the_person_of_groups(tmp_path: Path) -> None:
    policy = POLICY.replace("visit: {rule: keep}", "visit: {rule: shift_dates, person: id}") % ("zip", "")
    records = [{"id": each, "zip": "1", "visit": "2026-01-02"} for each in (1, 1, 2)]

    assert mask(tmp_path, policy, records)["anonymity"] == {
        "unit": "person",
        "k": 2,
        "smallest": 2,
        "groups": 1,
        "small_groups": 0,
        "small_records": 0,
        "l": None,
        "uniform_groups": 0,
    }
    with pytest.raises(ChangeRefused, match="3 records of 2 groups share .*; 2 persons or more"):
        mask(tmp_path, policy, [*records[:2], {**records[2], "zip": "2"}])

"""Masking policies: each error has its line, and all of them come at once."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.masking.policy import digest, json_schema, load_policy
from tests.support.wrong_policies import POLICY, WRONG


def write(directory: Path, text: str) -> Path:
    path = directory / "policy.yaml"
    path.write_text(text)
    return path


def test_a_policy_is_read_and_its_schema_agrees(tmp_path: Path) -> None:
    policy = load_policy(write(tmp_path, POLICY))

    assert policy.policy == "visits" and policy.columns["age"].edges == (18, 40, 65)
    jsonschema.validate(yaml.safe_load(POLICY), json_schema())


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first = digest(load_policy(write(tmp_path, POLICY)))

    assert digest(load_policy(write(tmp_path, f"# a remark\n{POLICY}"))) == first
    assert digest(load_policy(write(tmp_path, POLICY.replace("k: 5", "k: 6")))) != first


@pytest.mark.parametrize(("old", "new", "expected"), WRONG, ids=[each[1][:30] or each[0][:30] for each in WRONG])
def test_a_wrong_policy_is_refused_with_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert POLICY.count(old) == 1
    with pytest.raises(DeclarationError) as refused:
        load_policy(write(tmp_path, POLICY.replace(old, new)))
    assert f"policy.yaml:{expected}" in str(refused.value)


def test_all_errors_come_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = POLICY
    for old, new in [("to: decade", "to: x"), ("person: patient_id", "person: x"), ("DE]", "X]"), ("k: 5", "k: 1")]:
        text = text.replace(old, new)
    with pytest.raises(DeclarationError) as refused:
        load_policy(write(tmp_path, text))

    lines = [int(each) for each in re.findall(r"policy\.yaml:(\d+)", str(refused.value))]
    assert lines == [6, 7, 11, 12]

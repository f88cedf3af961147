"""Masking policies: each error has its line, and all of them come at once."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from rackwright.errors import DeclarationError
from rackwright.masking.policy import digest, json_schema, load_policy

POLICY = """\
policy: visits
key: {secret: masking_key}
columns:
  patient_id: {rule: pseudonym, domain: patient}
  name: {rule: drop}
  birth: {rule: generalise, to: decade}
  admitted: {rule: shift_dates, person: patient_id}
  ward: {rule: keep}
  age: {rule: generalise, to: bins, edges: [18, 40, 65]}
  "messages[].content": {rule: text}
text: {countries: [CN, DE], records: {mrn: ["MRN-#######"]}}
quasi_identifiers: {columns: [birth, ward], k: 5, sensitive: age, l: 2}
"""
WRONG = [
    ("policy: visits", "policy: Visits!", "1: policy: got the name 'Visits!'"),
    ("policy: visits\n", "", "1: got no policy"),
    ("key: {secret: masking_key}", "key: 0123456789", "2: key: got a value; a key is declared as a reference"),
    ("key: {secret: masking_key}\n", "", "1: got no key"),
    ("rule: pseudonym", "rule: hash", "4: columns.patient_id.rule: got 'hash'"),
    (
        "{rule: drop}",
        "{rule: drop, days: 3}",
        "5: columns.name.days: got the key days; the rule drop has no further key",
    ),
    ("{rule: drop}", "drop", "5: columns.name: got 'drop'; it is a mapping"),
    ("{rule: drop}", "{}", "5: columns.name: got no rule"),
    ("{rule: drop}", "{rule: drop, why: x}", "5: columns.name.why: got an unknown key"),
    ("to: decade", "to: century", "6: columns.birth.to: got 'century'"),
    (", to: decade", "", "6: columns.birth: got no to; generalise needs to"),
    ("to: decade", "to: prefix", "6: columns.birth: got no length; prefix needs length"),
    ("to: decade", "to: prefix, length: 0", "6: columns.birth.length: got 0"),
    ("to: decade", "to: year, form: '%d.%m.'", "6: columns.birth.form: got '%d.%m.'"),
    (", person: patient_id", "", "7: columns.admitted: got no person; shift_dates needs person"),
    ("person: patient_id", "person: patient", "7: columns.admitted.person: got 'patient'; a column of this policy"),
    ("person: patient_id", "person: patient_id, days: 9999", "7: columns.admitted.days: got 9999; it is 3650 or less"),
    (", edges: [18, 40, 65]", "", "9: columns.age: got no edges; bins needs edges"),
    ("[18, 40, 65]", "[18, 65, 40]", "9: columns.age.edges: got 18, 65, 40"),
    ('  "messages', '  messages: {rule: keep}\n  "messages', "10: columns.messages: got the rule keep; either a rule"),
    ("[CN, DE]", "[CN, DEU]", "11: text.countries[1]: got 'DEU'"),
    ("[CN, DE]", "[CN, CN]", "11: text.countries[1]: got CN twice"),
    ("countries: [CN, DE], ", "", "11: text: got no countries"),
    ("MRN-#######", "MRN-##", "11: text.records.mrn[0]: got 'MRN-##'"),
    ("MRN-#######", "MRN-.*#####", "11: text.records.mrn[0]: got 'MRN-.*#####'"),
    ("k: 5", "k: 1", "12: quasi_identifiers.k: got 1; it is 2 or more"),
    (
        "[birth, ward]",
        "[birth, name]",
        "12: quasi_identifiers.columns[1]: got 'name'; a column of this policy that the",
    ),
    ("[birth, ward]", "[birth, age]", "12: quasi_identifiers.sensitive: got 'age'; the sensitive column is none of"),
    (", l: 2", "", "12: quasi_identifiers: got no l; l-diversity needs sensitive and l"),
    ("l: 2", "l: 9", "12: quasi_identifiers.l: got 9; l is at most k, 5"),
    ('text: {countries: [CN, DE], records: {mrn: ["MRN-#######"]}}\n', "", "1: got no text; text says what"),
    ("\ncolumns:", "\ncolums:", "1: got no columns"),
    ("  ward:", "  name:", "8: columns.name: got the key twice"),
]


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

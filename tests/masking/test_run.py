"""Masking of whole files: no identifier is left in content or bytes, joins hold, and nothing is half written."""

import csv
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from rackwright.errors import ChangeRefused
from rackwright.masking import parquet_format, recognisers
from rackwright.masking.check import check_data
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
from tests.support.personal_data import COUNTRIES, KINDS, full_width, sentence, zero_width
from tests.support.sources import ROOT

KEY = "0123456789abcdef" * 4
POLICY = f"""\
policy: visits
key: {{secret: masking_key}}
columns:
  id: {{rule: pseudonym, domain: patient}}
  name: {{rule: drop}}
  birth: {{rule: generalise, to: decade}}
  seen: {{rule: shift_dates, person: id}}
  ward: {{rule: keep}}
  "messages[].role": {{rule: keep}}
  "messages[].content": {{rule: text}}
  "patient.phone": {{rule: pseudonym, domain: phone}}
  notes: {{rule: text}}
text: {{countries: [{", ".join(COUNTRIES)}], records: {{mrn: ["MRN-#######"]}}}}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def mask(policy: Path, source: Path, target: Path) -> Any:
    return Masking(load_policy(policy), "policy.yaml", KEY).run(str(source), target)


def rows(number: int) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield flat records, each with what must not be in the output."""
    source, kinds = random.Random(5), list(KINDS.values())
    for index in range(number):
        value = source.choice((str, full_width, zero_width))(kinds[index % len(kinds)](source))
        person, name = f"P{source.randrange(10**9)}x", f"Wang{source.randrange(10**6)}"
        record = {
            "id": person,
            "name": name,
            "birth": f"19{source.randrange(40, 99)}-03-07",
            "seen": f"2026-0{source.randrange(1, 10)}-11T10:00:00Z",
            "ward": "A",
            "notes": sentence(source, value),
        }
        yield record, [person, name, value, record["birth"], record["seen"][:10]]


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)


def write_jsonl(path: Path, records: list[dict[str, Any]], ascii: bool = False) -> None:
    path.write_text("".join(json.dumps(each, ensure_ascii=ascii) + "\n" for each in records))


def write_parquet(path: Path, records: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(records).replace_schema_metadata({"pandas": json.dumps(records[:3])})
    parquet.write_table(table, path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


def read_records(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    if path.suffix == ".parquet":
        table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
        return table
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("form", WRITERS)
def test_no_identifier_is_in_the_content_or_in_the_bytes(policy: Path, tmp_path: Path, form: str) -> None:
    records, secret = zip(*rows(240), strict=True)
    source, target = tmp_path / f"raw.{form}", tmp_path / f"masked.{form}"
    WRITERS[form](source, list(records))
    report = mask(policy, source, target)
    text = repr(read_records(target))

    assert report["records"] == 240
    for value in (each for several in secret for each in several):
        assert value not in text
        assert value.encode() not in target.read_bytes() + (tmp_path / f"masked.{form}.masking.json").read_bytes()
    assert check_data(load_policy(policy), str(target))["findings"] == []
    assert list(read_records(target)[0]) == ["id", "birth", "seen", "ward", "notes"]


def test_nested_conversations_are_masked(policy: Path, tmp_path: Path) -> None:
    record = {
        "id": 7,
        "patient": {"phone": "13800138000"},
        "messages": [{"role": "user", "content": "电话13800138000"}, {"role": "assistant", "content": None}],
        "seen": None,
    }
    write_jsonl(tmp_path / "raw.jsonl", [record, {"messages": None}, {"messages": []}], ascii=True)
    mask(policy, tmp_path / "raw.jsonl", tmp_path / "masked.jsonl")
    first, *others = read_records(tmp_path / "masked.jsonl")

    assert first["messages"][0]["content"].startswith("电话[phone_") and first["messages"][1]["content"] is None
    assert first["messages"][0]["role"] == "user" and others == [{"messages": None}, {"messages": []}]
    write_parquet(tmp_path / "raw.parquet", [record])
    mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")
    assert read_records(tmp_path / "masked.parquet")[0]["messages"] == first["messages"]


def repeated(path: Path, number: int, text: str = "xy") -> None:
    """Write a record whose list has *number* times the same text, which takes a few bytes."""
    indices = pa.Array.from_buffers(pa.int8(), number, [None, pa.py_buffer(bytes(number))])
    words = pa.DictionaryArray.from_arrays(indices, pa.array([text]))
    table = pa.table({"id": [1], "list": pa.ListArray.from_arrays(pa.array([0, number], pa.int32()), words)})
    parquet.write_table(table, path, compression="zstd", store_schema=False)


@pytest.mark.parametrize(("number", "text"), [(1_500_000, "xy"), (200_000, "xy" * 10_000)])
def test_a_small_parquet_that_takes_much_memory_is_refused(
    policy: Path, tmp_path: Path, number: int, text: str
) -> None:
    repeated(tmp_path / "raw.parquet", number, text)
    assert (tmp_path / "raw.parquet").stat().st_size < 5000
    policy.write_text(POLICY.replace("  ward:", '  "list[]": {rule: keep}\n  ward:'))
    with pytest.raises(ChangeRefused, match="a record has more than|a record may take more than"):
        mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")
    assert not (tmp_path / "masked.parquet").exists()


@pytest.mark.parametrize("path", ["list", '"list[]"'])
def test_a_dropped_column_of_parquet_is_not_read(policy: Path, tmp_path: Path, path: str) -> None:
    repeated(tmp_path / "raw.parquet", 1_500_000)
    policy.write_text(POLICY.replace("  ward:", f"  {path}: {{rule: drop}}\n  ward:"))
    mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")
    assert not read_records(tmp_path / "masked.parquet")[0].get("list")


def test_one_long_list_among_many_records_is_refused(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_format, "VALUES_MAX", 100)
    policy.write_text(POLICY.replace("  ward:", '  "list[]": {rule: keep}\n  ward:'))
    records = [{"id": each, "list": [1] * 20} for each in range(50)]
    write_parquet(tmp_path / "raw.parquet", records)
    assert mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")["records"] == 50
    write_parquet(tmp_path / "raw.parquet", [*records, {"id": 51, "list": [1] * 200}])
    with pytest.raises(ChangeRefused, match="a record has more than"):
        mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")


def test_equal_values_have_equal_pseudonyms_in_all_files_and_formats(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "raw/below").mkdir(parents=True)
    write_csv(tmp_path / "raw/a.csv", [{"id": "1001", "notes": "x"}])
    write_jsonl(tmp_path / "raw/below/b.jsonl", [{"id": 1001}, {"id": "１００１"}])
    write_parquet(tmp_path / "raw/c.parquet", [{"id": 1001.0}])
    report = mask(policy, tmp_path / "raw", tmp_path / "masked")
    found = [
        each["id"]
        for name in ("a.csv", "below/b.jsonl", "c.parquet")
        for each in read_records(tmp_path / "masked" / name)
    ]

    assert len(found) == 4 and len({*found}) == 1
    assert [each["name"] for each in report["files"]] == ["a.csv", "below/b.jsonl", "c.parquet"]
    other = Masking(load_policy(policy), "", KEY[::-1])
    other.run(str(tmp_path / "raw/a.csv"), tmp_path / "other.csv")
    assert read_records(tmp_path / "other.csv")[0]["id"] != found[0]


def test_the_dates_of_a_person_move_together(policy: Path, tmp_path: Path) -> None:
    days = [("1", "2026-01-01"), ("1", "2026-03-01"), ("2", "2026-01-01"), ("1", "2026-01-01 10:20:30+08:00")]
    write_csv(tmp_path / "raw.csv", [{"id": person, "seen": day} for person, day in days])
    mask(policy, tmp_path / "raw.csv", tmp_path / "masked.csv")
    first, second, other, timed = (each["seen"] for each in read_records(tmp_path / "masked.csv"))

    assert (date.fromisoformat(second) - date.fromisoformat(first)).days == 59
    assert first != "2026-01-01" and other != first
    assert timed == f"{first} 10:20:30"


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ("2026-03-04T10:11", r"....-..-..T10:11"),
        ("2026-03-04 10:11:12Z", r"....-..-.. 10:11:12"),
        ("2026-03-04T10:11:12.5+0800", r"....-..-..T10:11:12\.500"),
        ("2026-03-04T10:11:12.123456789", r"....-..-..T10:11:12\.123456"),
        ("2026-03-04T10:11:12.110101199003078515", None),
        ("2026-03-04T10:11:12+12:34:56", None),
        ("2026-03-04T10:11:61", None),
        ("2026-03-04T10", None),
        ("2026-03-04T1011", None),
        ("2026-03-04 10:11 Anna", None),
        ("0999-03-04", None),
        ("9999-12-30", None),
    ],
)
def test_a_date_is_written_from_its_date_and_time_alone(
    policy: Path, tmp_path: Path, value: str, form: str | None
) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [{"id": each, "seen": value} for each in range(9)])
    if form is None:
        with pytest.raises(ChangeRefused, match="cannot be masked by its rule"):
            mask(policy, tmp_path / "raw.jsonl", tmp_path / "masked.jsonl")
        return
    mask(policy, tmp_path / "raw.jsonl", tmp_path / "masked.jsonl")
    assert all(re.fullmatch(form, each["seen"]) for each in read_records(tmp_path / "masked.jsonl"))
    assert check_data(load_policy(policy), str(tmp_path / "masked.jsonl"))["findings"] == []
    write_jsonl(tmp_path / "masked.jsonl", [{"id": "patient_bcdfghjklmnpqrst", "seen": value}])
    found = check_data(load_policy(policy), str(tmp_path / "masked.jsonl"))["findings"]
    assert ("seen" in {each["column"] for each in found}) == (re.fullmatch(form, value) is None)


@pytest.mark.parametrize("form", WRITERS)
def test_a_placeholder_of_an_unknown_date_does_not_show_the_offset(policy: Path, tmp_path: Path, form: str) -> None:
    policy.write_text(POLICY.replace("person: id}", 'person: id, placeholders: ["01-01", "2001-02-03"]}'))
    days = ["1900-01-01", "9999-12-31", "1987-01-01", "2001-02-03", "1987-01-02"]
    WRITERS[form](tmp_path / f"raw.{form}", [{"id": "1", "seen": each} for each in days])
    mask(policy, tmp_path / f"raw.{form}", tmp_path / f"masked.{form}")

    *empty, moved = (each["seen"] for each in read_records(tmp_path / f"masked.{form}"))
    assert not any(empty) and moved


def test_a_zone_of_parquet_does_not_show_the_season(policy: Path, tmp_path: Path) -> None:
    moment = datetime(2026, 7, 4, 3, tzinfo=UTC)
    table = pa.Table.from_pylist(
        [{"id": 1, "seen": moment}], pa.schema({"id": pa.int64(), "seen": pa.timestamp("us", "Europe/Berlin")})
    )
    parquet.write_table(table, tmp_path / "raw.parquet")
    mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")
    [record] = read_records(tmp_path / "masked.parquet")

    assert record["seen"].tzinfo is None and record["seen"].hour == 5


def test_a_number_with_decimals_that_are_zero_is_searched(policy: Path, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [{"notes": 4111111111111111.0}, {"notes": 1.5}])
    report = mask(policy, tmp_path / "raw.jsonl", tmp_path / "masked.jsonl")
    first, second = read_records(tmp_path / "masked.jsonl")

    assert first["notes"].startswith("[card_") and second["notes"] == 1.5
    assert [each["found"] for each in report["columns"] if each["name"] == "notes"] == [{"card": 1}]


def test_a_text_with_too_many_numbers_is_refused(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognisers, "CHECKS_MAX", 100)
    write_jsonl(tmp_path / "raw.jsonl", [{"notes": "1 " * 500}])
    with pytest.raises(ChangeRefused, match="texts with 100 numbers at most"):
        mask(policy, tmp_path / "raw.jsonl", tmp_path / "masked.jsonl")
    found = check_data(load_policy(policy), str(tmp_path / "raw.jsonl"))["findings"]
    assert "a text has too many numbers" in {each["problem"] for each in found}


def test_columns_without_a_rule_are_refused_all_at_once(policy: Path, tmp_path: Path) -> None:
    raw: list[dict[str, Any]] = [
        {"id": 1, "sex": "f"},
        {"id": 2, "patient": {"street": "x", "phone": "1"}},
        {"messages": [{"tool": 1}]},
    ]
    write_jsonl(tmp_path / "raw.jsonl", raw)
    with pytest.raises(ChangeRefused) as refused:
        mask(policy, tmp_path / "raw.jsonl", tmp_path / "masked.jsonl")

    text = str(refused.value)
    labels = ("record 1: column 2", "record 2: patient, key 1", "record 3: messages[], key 1")
    assert all(f"{label}: the column has no rule" in text for label in labels)
    assert not any(name in text for name in ("sex", "street", "tool"))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["policy.yaml", "raw.jsonl"]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("csv", "13800138000,Anna\nx,y\n"),
        ("csv", "id,13800138000\n1,2\n"),
        ("csv", "id,id13800138000\n1,2\n"),
        ("csv", "id,birth\n1,Anna 13800138000\n"),
        ("csv", 'id,notes\n1,"13800138000\n'),
        ("csv", "id,notes\n1,2,13800138000\n"),
        ("csv", "id,13800138000,13800138000\n1,2,3\n"),
        ("csv", "id,Anna\n1,2\n"),
        ("jsonl", '{"13800138000": 1}\n'),
        ("jsonl", '{"id": 1, "Anna": 1}\n'),
        ("jsonl", '{"id": 1, "Anna": {"v": [1]}}\n'),
        ("jsonl", '{"id": 1, "Anna.Schmidt": {"v": 1}}\n'),
        ("jsonl", '{"id": 1, "patient": {"Schmidt_Anna_positive": {"v": 1}}}\n'),
        ("jsonl", '{"id": 1, "messages": [{"Anna": [{}]}]}\n'),
        ("jsonl", '{"id": 1, "patient": {"anna@example.com": 1}}\n'),
        ("jsonl", '{"id": 1, "patient": {"anna@example.com": null}}\n'),
        ("jsonl", '{"id": 1, "id13800138000": []}\n'),
        ("jsonl", '{"id": 1, "13800138000": 1, "13800138000": 2}\n'),
        ("jsonl", '{"id": 13800138000\n'),
        ("jsonl", '["13800138000"]\n'),
        ("jsonl", '{"seen": "13800138000"}\n'),
        ("jsonl", '{"id": 1, "seen": "13800138000"}\n'),
        ("jsonl", '{"id": 1, "notes": {"13800138000": 1}}\n'),
        ("jsonl", '{"id": 1, "ward": ["13800138000"]}\n'),
    ],
)
def test_a_refusal_quotes_no_value_and_no_key_that_is_one(
    policy: Path, tmp_path: Path, form: str, content: str
) -> None:
    (tmp_path / f"raw.{form}").write_text(content)
    with pytest.raises(ChangeRefused) as refused:
        mask(policy, tmp_path / f"raw.{form}", tmp_path / f"masked.{form}")

    text = "".join(f"{each}" for each in refused.value.diagnostics)
    assert "13800138000" not in text and "nna" not in text
    assert not (tmp_path / f"masked.{form}").exists()


@pytest.mark.parametrize("name", ["raw.npy", "raw.npz", "raw.pkl", "raw.pt"])
def test_files_that_may_hold_python_objects_are_refused(policy: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(ChangeRefused, match="may hold Python objects, and reading them runs code"):
        mask(policy, tmp_path / name, tmp_path / "masked.csv")


def test_a_file_name_with_an_identifier_is_refused_without_it(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/patient_110101199003078515.csv").write_text("id\n1\n")
    with pytest.raises(ChangeRefused, match="file 1 of 1: its name has an identifier") as refused:
        mask(policy, tmp_path / "raw", tmp_path / "masked")
    assert "110101" not in str(refused.value)


def test_an_error_of_a_library_is_not_quoted(policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise pa.ArrowInvalid("Could not convert '13800138000' with type str")

    write_parquet(tmp_path / "raw.parquet", [{"id": 1}])
    monkeypatch.setattr(parquet.ParquetWriter, "write_table", fail)
    with pytest.raises(ChangeRefused, match="a record cannot be read or masked") as refused:
        mask(policy, tmp_path / "raw.parquet", tmp_path / "masked.parquet")
    assert "138" not in str(refused.value) and refused.value.__suppress_context__


def test_small_groups_are_refused_with_their_numbers_alone(policy: Path, tmp_path: Path) -> None:
    quasi = "quasi_identifiers: {columns: [birth, ward], k: 3, sensitive: notes, l: 2}\n"
    policy.write_text(POLICY + quasi)
    raw = [{"id": index, "birth": "1961-01-01", "ward": "A", "notes": "same"} for index in range(4)]
    write_csv(tmp_path / "raw.csv", [*raw, {"id": 9, "birth": "1977-01-01", "ward": "Secret", "notes": "x"}])
    with pytest.raises(ChangeRefused) as refused:
        mask(policy, tmp_path / "raw.csv", tmp_path / "masked.csv")

    text = str(refused.value)
    assert "1 record of 1 group share their quasi-identifiers with too few others" in text
    assert "2 groups have too few different sensitive values" in text
    assert "Secret" not in text and "1970" not in text and not (tmp_path / "masked.csv").exists()


def test_a_kept_column_that_looks_like_an_identifier_is_listed(policy: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw.csv", [{"id": index, "ward": f"w{index}"} for index in range(200)])
    report = mask(policy, tmp_path / "raw.csv", tmp_path / "masked.csv")

    assert [each["name"] for each in report["columns"] if each["looks_like_identifier"]] == ["ward"]


def test_foreign_data_at_the_target_stay(policy: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "raw.csv", [{"id": 1}])
    (tmp_path / "other.csv").write_text("mine")
    with pytest.raises(ChangeRefused, match="it exists already"):
        mask(policy, tmp_path / "raw.csv", tmp_path / "other.csv")
    with pytest.raises(ChangeRefused, match="the target is the source"):
        mask(policy, tmp_path / "raw.csv", tmp_path / "raw.csv")
    mask(policy, tmp_path / "raw.csv", tmp_path / "masked.csv")
    mask(policy, tmp_path / "raw.csv", tmp_path / "masked.csv")
    for _ in range(2):
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_csv(tmp_path / "raw/a.csv", [{"id": 1}])
        mask(policy, tmp_path / "raw", tmp_path / "masked")
    hidden = [each.name for each in tmp_path.iterdir() if each.name.startswith(".")]
    assert (tmp_path / "other.csv").read_text() == "mine" and hidden == []


ENDLESS = """
import sys
from pathlib import Path
from rackwright.masking.policy import load_policy
from rackwright.masking.run import Masking
Masking(load_policy(Path(sys.argv[1])), "", "k" * 40).run("-", Path(sys.argv[2]), "jsonl")
"""


def test_a_killed_masking_leaves_nothing_that_looks_whole(policy: Path, tmp_path: Path) -> None:
    """The pipe is never closed: the program waits in the middle of its work, and is killed there."""
    target = tmp_path / "masked.jsonl"
    argv = [sys.executable, "-c", ENDLESS, str(policy), str(target)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    line = json.dumps({"id": 1, "notes": "电话13800138000"}).encode() + b"\n"
    while not [each for each in tmp_path.glob(".masked*/masked.jsonl") if each.stat().st_size]:
        process.stdin.write(line * 1000)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdin.close()

    assert not target.exists() and not (tmp_path / "masked.jsonl.masking.json").exists()

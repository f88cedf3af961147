"""Facts as lines of JSON: the text has all facts, and a table that is read in parts has the same entries."""

import json

import pytest

from rackwright.facts import table
from rackwright.facts.facts import Facts
from rackwright.facts.table import LONG, Table, keys_starting_with
from rackwright.facts.view import UnknownFact
from tests.support import recorded_facts

NAMES = ['/a "quoted"', "/a\\back", "/a\nline", "/ä", "/😀", "/a", "/a b", "/a/b", "/a-b", "/A", '/",\n "x', "/{", ""]
FILES = {name: {"mode": "0644", "number": number} for number, name in enumerate(NAMES)} | {
    f"/etc/{number}": {"mode": "4755" if number == 7 else "0644", "owner": '"mode":"0'} for number in range(LONG)
}


def files() -> Table:
    parsed = table.parse(table.dump({"files": FILES, "format": 1}).encode())
    assert isinstance(parsed["files"], Table)
    return parsed["files"]


@pytest.mark.parametrize("name", ["two-tiers", "bonded"])
def test_the_text_is_json_with_all_facts(name):
    raw = recorded_facts.raw(name)
    text = table.dump(raw)

    assert json.loads(text) == raw
    assert table.plain(table.parse(text.encode())) == raw
    assert max(map(len, text.splitlines())) < len(text) / 4


def test_each_entry_is_found_by_its_name():
    for name, entry in FILES.items():
        assert name in files()
        assert files()[name] == entry
    assert files() == FILES
    assert len(files()) == len(FILES)


@pytest.mark.parametrize("name", ["/b", "/etc", "/etc/1x", "/a\\", 1, None])
def test_another_name_is_not_there(name):
    assert name not in files()
    with pytest.raises(KeyError):
        files()[name if isinstance(name, str) else "/none"]


@pytest.mark.parametrize("prefixes", [("/a",), ("/etc/1", "/etc/2"), ("/a\\",), ("/😀",), ("",), ("/none",)])
def test_the_same_keys_start_with_a_text_as_in_a_dict(prefixes):
    assert sorted(keys_starting_with(files(), *prefixes)) == sorted(keys_starting_with(FILES, *prefixes))


def test_a_directory_is_listed_and_special_files_are_found_as_in_a_dict():
    raw = {"files": FILES, "directories": {"/etc": {}}, "covers": {"files": ["/etc"]}}
    by_lines = Facts({**raw, "files": files()})

    assert by_lines.listing("/etc") == Facts(raw).listing("/etc") == tuple(sorted(str(n) for n in range(LONG)))
    assert by_lines.special_files == Facts(raw).special_files == {"/etc/7": FILES["/etc/7"]}
    assert set(by_lines.paths_below("/a", "/etc")) == set(Facts(raw).paths_below("/a", "/etc"))
    assert by_lines.raw == raw


def test_the_order_of_lines_does_not_matter():
    text = table.dump({"files": FILES}).encode()
    lines = text[len(b'{"files":{\n ') : -len(b"\n}}\n")].split(b",\n ")
    mixed = b'{"files":{\n %s\n}}\n' % b",\n ".join([*lines[20:], *lines[:20]])

    assert all(table.parse(mixed)["files"][name] == entry for name, entry in FILES.items())


@pytest.mark.parametrize(
    "text",
    [
        '{"a":1,\n"b":{"c":2,\n"d":3}}\n',
        '{"a":{"x":",\\n"},\n"b":[1,\n"c"]}\n',
        '{"a":{"b":{\n "c":1\n}}}\n',
        '{"a":{\n"b":{\n "c":1\n}}}\n',
        '[{\n"b":{\n "c":1\n}}]\n',
        '{"b":{\n "c":1\n},"d":{}}\n',
        '{"b":{\n "c":1\n}}',
        '{\n  "a": {\n    "b": 1\n  }\n}\n',
    ],
)
def test_json_in_another_layout_is_read(text):
    assert table.parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize("text", ["", "[]x", '{"a":1', '{"a":1,\n"b":}\n', '{"a":1,\n"b"}\n'])
def test_a_text_that_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        table.parse(text.encode())


def test_an_entry_in_a_damaged_line_is_unknown():
    text = table.dump({"files": FILES}).replace('"/etc/7":{', '"/etc/7":{{').encode()
    facts = Facts({**table.parse(text), "covers": {"files": ["/etc"]}})

    assert facts.file("/etc/8").mode == "0644"
    with pytest.raises(UnknownFact, match=r"facts.files has a value of another form than the probe writes"):
        facts.file("/etc/7")


def test_facts_as_plain_data_decode_each_table_once(monkeypatch):
    decode, calls = Table._decode, []
    monkeypatch.setattr(Table, "_decode", lambda self, lines: calls.append(len(lines)) or decode(self, lines))

    once = {**FILES, "/once": {}}  # an equal table of another test would be decoded already

    assert table.plain(table.parse(table.dump({"files": once}).encode())) == {"files": once}
    assert calls == [len(once)]


def test_hosts_with_equal_tables_share_what_was_decoded():
    one = table.parse(table.dump({"files": FILES, "host": "one"}).encode())
    other = table.parse(table.dump({"files": FILES, "host": "other"}).encode())
    third = table.parse(table.dump({"files": {**FILES, "/a": 0}, "host": "third"}).encode())

    assert one["files"] is other["files"] and one["host"] != other["host"]
    assert third["files"]["/a"] == 0 != one["files"]["/a"]

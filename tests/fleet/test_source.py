"""YAML 1.2 as plain data: what a reference reader reads too, and the place of every value."""

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError

from rackwright.errors import DeclarationError
from rackwright.fleet.source import Source, format_keys, parse, read

HERE = Path(__file__).parent
FILES = [*(HERE / "wrong").glob("*.yaml"), *(HERE.parents[1] / "stacks").glob("*.yaml")]


class Reference(SafeConstructor):
    """YAML 1.2 has no dates: they are words."""


Reference.add_constructor("tag:yaml.org,2002:timestamp", Reference.construct_yaml_str)


def read_text(text: str, directory: Path) -> Source:
    path = directory / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_every_file_reads_as_by_the_reference_reader(path: Path) -> None:
    try:
        found = read(path)
    except DeclarationError:
        return  # refused: there is nothing to agree on, and its message is golden
    reference = YAML(typ="safe", pure=True)
    reference.allow_duplicate_keys = True
    reference.Constructor = Reference
    try:
        expected = reference.load(path)
    except YAMLError as error:
        pytest.fail(f"the reference reader refuses it: {error}")
    assert found.data == expected or found.mistakes


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("52:54:00:12:34:56", "52:54:00:12:34:56"),
        ("12:34:56", "12:34:56"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-12", -12),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("3.84", 3.84),
        ("1e3", 1000.0),
        (".5", 0.5),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("3.84TB", "3.84TB"),
        ("580", 580),
        ('"580"', "580"),
        ("'yes'", "yes"),
        ("[a, 1]", ["a", 1]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(written: str, value: Any, tmp_path: Path) -> None:
    assert read_text(f"key: {written}\n", tmp_path).data == {"key": value}
    assert YAML(typ="safe", pure=True).load(f"key: {written}\n") == {"key": value}


@pytest.mark.parametrize("written", ["1_000", "2026-01-01", "="])
def test_what_only_yaml_1_1_makes_of_it_is_a_text(written: str, tmp_path: Path) -> None:
    """The reference reader still takes these for a number, a date and a default."""
    assert read_text(f"key: {written}\n", tmp_path).data == {"key": written}


# .5e1 is a number and +0x1 is none, which the reference reader sees the other way round
DEVIATING = re.compile(r"[-+]?\.[0-9]+[eE]|[-+]0[xo]")
plain = st.from_regex(r"\A[-+.0-9a-fA-Fox:~nulTtrueyso]{1,6}\Z").filter(lambda text: not DEVIATING.match(text))


@given(plain)
def test_any_plain_scalar_is_what_the_reference_reader_says(written: str) -> None:
    text = f"key: {written}\n"
    try:
        expected = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        return
    with TemporaryDirectory() as directory:
        assert repr(read_text(text, Path(directory)).data) == repr(expected)


def test_a_key_is_a_text_whatever_it_looks_like(tmp_path: Path) -> None:
    assert read_text("007: a\ntrue: b\nnull: c\n", tmp_path).data == {"007": "a", "true": "b", "null": "c"}


TEXT = """\
# a comment
fleet: x

hosts:
  alpha: {os: debian-12,
          address: 192.0.2.1}
  beta:
    drives:
      - {serial: A}
      -
        serial: 0012
    options: [a,
              b]
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ((), 1),
        (("fleet",), 2),
        (("hosts",), 4),
        (("hosts", "alpha", "os"), 5),
        (("hosts", "alpha", "address"), 6),
        (("hosts", "beta", "drives"), 8),
        (("hosts", "beta", "drives", 0), 9),
        (("hosts", "beta", "drives", 0, "serial"), 9),
        (("hosts", "beta", "drives", 1, "serial"), 11),
        (("hosts", "beta", "options", 1), 13),
        (("hosts", "beta", "drives", 0, "size"), 9),
        (("hosts", "gamma", "os"), 4),
        (("hosts", "beta", "drives", 7), 8),
    ],
)
def test_a_value_or_what_is_nearest_to_it_has_its_line(keys: tuple[str | int, ...], line: int, tmp_path: Path) -> None:
    assert read_text(TEXT, tmp_path).line(keys) == line


def test_a_number_is_kept_letter_by_letter(tmp_path: Path) -> None:
    source = read_text(TEXT, tmp_path)
    assert source.data["hosts"]["beta"]["drives"][1]["serial"] == 12
    assert source.text(("hosts", "beta", "drives", 1, "serial")) == "0012"
    assert source.text(("hosts", "beta")) is None
    assert source.text(("hosts", "gamma")) is None


def test_of_a_key_that_stands_twice_the_first_holds_and_both_are_reported(tmp_path: Path) -> None:
    source = read_text("a: 1\nb: {c: 1, c: 2}\na: 2\n", tmp_path)
    assert source.data == {"a": 1, "b": {"c": 1}}
    assert source.line(("a",)) == 1
    assert [line for line, _ in source.mistakes] == [2, 3]


def test_keys_read_as_a_path() -> None:
    assert format_keys(("hosts", "alpha", "drives", 2, "size")) == "hosts.alpha.drives[2].size"


def test_a_number_of_more_digits_than_python_reads_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"fleet.yaml:2: b: got a number of 5000 digits; numbers up to"):
        read_text(f"a: 1\nb: {'9' * 5000}\n", tmp_path)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path):
    """
    Parsed, one of 50 MB takes a minute and 837 MB of memory.
    """
    path = tmp_path / "fleet.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)

    with pytest.raises(DeclarationError, match="fleet.yaml:1: the file has 50000000 bytes; 8 MiB at most"):
        read(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fleet.yaml")
    with pytest.raises(DeclarationError, match="fleet.yaml: not a regular file"):
        read(tmp_path / "fleet.yaml")


@pytest.mark.parametrize("depth", [500, 2000, 100_000])
def test_brackets_in_brackets_are_an_error_and_no_crash(depth):
    with pytest.raises(DeclarationError, match="x.yaml:1"):
        parse(Path("x.yaml"), "a: " + "[" * depth + "]" * depth)

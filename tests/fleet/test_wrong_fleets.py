"""Wrong fleets, each with the whole message that a person gets: ``wrong/*.yaml`` beside ``*.expected``."""

import socket
from pathlib import Path

import pytest

from rackwright.core.repository import Roles
from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from tests.support.sources import ROOT
from tests.support.wrong_fleets import FLEETS, WRONG

ROLES = Roles(ROOT)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*args: object, **more: object) -> None:
        raise AssertionError("a declaration is checked without a connection")

    monkeypatch.setattr(socket, "socket", denied)


def load_errors(name: str) -> DeclarationError:
    with pytest.raises(DeclarationError) as caught:
        load_fleet(Path(name), ROLES)
    return caught.value


@pytest.mark.parametrize("name", FLEETS)
def test_the_whole_message_is_as_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    assert load_errors(name).render() + "\n" == (WRONG / name).with_suffix(".expected").read_text()


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = (
        "x.yaml: the file cannot be read: No such file or directory; a regular file that this account may read."
        " Correct the name."
    )
    assert str(load_errors("x.yaml")) == expected


def test_every_message_stands_beside_its_fleet() -> None:
    assert {path.stem for path in WRONG.glob("*.expected")} == {Path(name).stem for name in FLEETS}


def test_many_errors_come_at_once_and_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    lines = [int(error.where.split(":")[1]) for error in load_errors("many.yaml").diagnostics]
    assert len(lines) >= 6
    assert lines == sorted(lines)


def test_every_error_says_where_what_and_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    for name in FLEETS:
        for error in load_errors(name).diagnostics:
            assert error.where.startswith(f"{name}:"), error
            assert error.problem and not error.problem.endswith("."), error
            assert error.expected, error
            assert error.help[0].isupper() and not error.help.endswith("."), error

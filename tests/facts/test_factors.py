"""The file of a second factor: what the PAM module notes is silent, and what lets another person in is not."""

from pathlib import Path

import pytest

from rackwright.facts.digest import digest
from tests.support.second_factors import LINES, SALT, SILENT, WEAKER, WRITTEN, is_declared, read


@pytest.mark.parametrize("change", SILENT)
def test_notes_of_the_module_change_nothing(tmp_path: Path, change: str) -> None:
    found = read(tmp_path, SILENT[change](LINES))

    assert is_declared(found)
    assert found["key"] == digest(WRITTEN.key.encode(), SALT)
    assert not any(code in str(found) for code in (WRITTEN.key, *WRITTEN.emergency))


@pytest.mark.parametrize("change", WEAKER)
def test_what_lets_another_person_in_is_seen(tmp_path: Path, change: str) -> None:
    assert not is_declared(read(tmp_path, WEAKER[change](LINES)))


def test_a_file_without_a_key_is_unknown(tmp_path: Path) -> None:
    assert "is no key" in str(read(tmp_path, ["none"])["unknown"])

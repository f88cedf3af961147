"""The file of a second factor: what the PAM module notes is silent, and what lets another person in is not."""

from pathlib import Path

import pytest

from rackwright.access.totp import EMERGENCY_CODES, OPTIONS, Secret
from rackwright.facts.digest import digest
from rackwright.facts.facts import Facts
from rackwright.kinds.role.entries.accounts import Factor
from rackwright.kinds.role.observe import _factor
from rackwright.kinds.role.refusals import refusals
from tests.support.our_roles import REPOSITORY
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


def test_a_key_that_was_replaced_differs_from_the_declared_digest(tmp_path: Path) -> None:
    declared = Factor(factor="olga", options=OPTIONS, codes=EMERGENCY_CODES, key=digest(WRITTEN.key.encode(), SALT))
    wanted = declared.want(REPOSITORY)["key"]
    other = [Secret.new().key, *LINES[1:]]
    found = {}
    for name, lines in {"written": LINES, "used": LINES[:-1], "replaced": other}.items():
        (tmp_path / name).mkdir()
        facts = Facts({"factors": {"olga": read(tmp_path / name, lines)}})
        found[name] = _factor(facts, "olga", "key") == wanted

    assert found == {"written": True, "used": True, "replaced": False}
    assert is_declared(read(tmp_path, other)), "nothing else shows it"


def test_without_a_declared_digest_the_key_is_no_claim() -> None:
    assert "key" not in Factor(factor="olga", options=OPTIONS, codes=EMERGENCY_CODES).want(REPOSITORY)


def test_a_file_without_a_key_is_unknown(tmp_path: Path) -> None:
    assert "is no key" in str(read(tmp_path, ["none"])["unknown"])


@pytest.mark.parametrize("text", ["x", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n", "0" * 32])
def test_another_text_than_a_digest_is_refused(text: str) -> None:
    person = {"name": "olga", "function": "operator", "keys": ["ssh-ed25519 AAAA olga"], "factor": text}
    found = refusals(REPOSITORY.roles["access"], "debian-12", {"people": [person]})

    assert any("got factor" in str(each) for each in found) == (text != "0" * 32)

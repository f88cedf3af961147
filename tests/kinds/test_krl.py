"""Lists of revoked keys and certificates, as the real ssh-keygen reads them."""

import subprocess
from pathlib import Path

import pytest

from rackwright.kinds.role.krl import krl
from tests.support.login_machine import new_key

REVOKED = 1
"""How `ssh-keygen -Q` ends for something that is on the list."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    for name in ("ca", "other", "deploy", "spare"):
        new_key(made / name)
    return made


def line(keys: Path, name: str) -> str:
    return (keys / f"{name}.pub").read_text().strip()


def certificate(keys: Path, ca: str, serial: str) -> Path:
    public = keys / f"{ca}-{serial}.pub"
    public.write_text(line(keys, "deploy"))
    argv = ["ssh-keygen", "-q", "-s", str(keys / ca), "-I", "x", "-n", "deploy", "-z", serial, str(public)]
    subprocess.run(argv, check=True)
    return keys / f"{ca}-{serial}-cert.pub"


def asked(path: Path, text: bytes, *which: Path) -> list[int]:
    """Return how ssh-keygen judges each of *which* by the list *text*."""
    path.write_bytes(text)
    return [
        subprocess.run(["ssh-keygen", "-Q", "-f", str(path), str(one)], capture_output=True).returncode for one in which
    ]


def test_a_serial_is_revoked_and_the_next_is_not(keys, tmp_path):
    certificates = [certificate(keys, "ca", serial) for serial in ("41", "42", "43", "18446744073709551615")]
    text = krl([{"serial": 42}, {"serial": "18446744073709551615"}], "alpha")

    assert asked(tmp_path / "krl", text, *certificates) == [0, REVOKED, 0, REVOKED]
    assert asked(tmp_path / "krl", text, keys / "deploy.pub") == [0]


def test_a_serial_may_be_that_of_one_authority(keys, tmp_path):
    text = krl([{"serial": 42, "ca": line(keys, "ca")}], "alpha")

    assert asked(tmp_path / "krl", text, certificate(keys, "ca", "42"), certificate(keys, "other", "42")) == [
        REVOKED,
        0,
    ]


def test_a_key_is_revoked_with_its_certificates_and_an_authority_with_what_it_signed(keys, tmp_path):
    of_ca, of_other = certificate(keys, "ca", "7"), certificate(keys, "other", "7")

    assert asked(tmp_path / "krl", krl([line(keys, "spare")], ""), keys / "spare.pub", of_ca) == [REVOKED, 0]
    assert asked(tmp_path / "krl", krl([line(keys, "ca")], ""), of_ca, of_other) == [REVOKED, 0]
    assert asked(tmp_path / "krl", krl([line(keys, "deploy")], ""), of_ca, of_other) == [REVOKED, REVOKED]


def test_a_list_of_nothing_revokes_nothing(keys, tmp_path):
    assert asked(tmp_path / "krl", krl([], "alpha"), keys / "deploy.pub") == [0]


def test_the_same_declaration_is_the_same_list_in_whatever_order(keys):
    serials = [{"serial": 42}, {"serial": 7}, *({"serial": 42, "ca": line(keys, name)} for name in ("ca", "other"))]
    revoked = [line(keys, "ca"), *serials, line(keys, "spare"), line(keys, "spare")]

    assert krl(revoked, "alpha") == krl(revoked[::-1], "alpha")
    assert krl(revoked, "alpha") != krl(revoked[1:], "alpha")


def test_a_list_says_whose_it_is(keys, tmp_path):
    (tmp_path / "krl").write_bytes(krl([{"serial": 42}], "alpha/access"))
    shown = subprocess.run(
        ["ssh-keygen", "-Q", "-l", "-f", str(tmp_path / "krl")], capture_output=True, text=True, check=True
    ).stdout

    assert "alpha/access" in shown
    assert "serial: 42" in shown

"""Sealed keys as the probe reports them, with a stand-in for what asks the TPM."""

import base64
import os

import pytest

from rackwright.facts.digest import digest
from rackwright.facts.facts import Facts
from rackwright.facts.probe import credentials
from rackwright.facts.probe.observe import CommandFailed
from rackwright.facts.view import UnknownFact
from tests.support.fabricated_machine import FabricatedMachine

SALT = b"salt"
PATH = "/etc/rackwright/tiers/hot.cred"
SEALED = base64.encodebytes(bytes.fromhex(credentials.BY_TPM2) + bytes(range(200)))
BY_HOST = base64.encodebytes(bytes(16) + bytes(range(200)))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with one sealed key, which it opens, and which root looks at."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = FabricatedMachine(tmp_path)
    found.write(PATH[1:], SEALED)
    answer(monkeypatch, lambda *argv: "Ágnes' key\n")
    return found


def answer(monkeypatch, tool):
    monkeypatch.setattr(credentials, "run_tool", tool)


def read_credentials(machine):
    return Facts({"credentials": credentials.credentials(machine.top, SALT), "tpm": credentials.tpm(machine.top)})


@pytest.mark.parametrize(("text", "version"), [("2\n", 2), ("1\n", 1), (None, None)])
def test_a_tpm_reports_its_version(machine, text, version):
    if text:
        machine.write(credentials.TPM[1:], text)

    assert read_credentials(machine).tpm == version


def test_what_is_sealed_is_reported_by_its_digest(machine, monkeypatch):
    """
    It is the digest that the key would have in a file, whatever letters it has.
    """
    asked = []
    answer(monkeypatch, lambda *argv: asked.append(argv) or "Ágnes' key\n")

    found = read_credentials(machine).credential(PATH)

    assert (found.sealed_by, found.opens) == ("tpm2", True)
    assert found.digest == digest("Ágnes' key\n".encode(), SALT)
    assert asked == [("systemd-creds", "decrypt", "--name=hot.cred", machine.top + PATH, "-")]
    assert read_credentials(machine).credential("/etc/rackwright/tiers/warm.cred") is None


def test_what_another_mainboard_has_sealed_does_not_open_and_says_why(machine, monkeypatch):
    def refuse(*argv):
        raise CommandFailed("systemd-creds ended with 1: Failed to unseal")

    answer(monkeypatch, refuse)

    found = read_credentials(machine).credential(PATH)

    assert (found.sealed_by, found.opens) == ("tpm2", False)
    with pytest.raises(UnknownFact, match="Failed to unseal"):
        _ = found.digest


def test_what_the_boot_drive_opens_by_itself_is_not_sealed_by_the_tpm(machine):
    machine.write(PATH[1:], BY_HOST)

    assert read_credentials(machine).credential(PATH).sealed_by == "other"


def test_who_is_not_root_cannot_tell_whether_it_opens(machine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(UnknownFact, match="only root"):
        read_credentials(machine).credential(PATH)

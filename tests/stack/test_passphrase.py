"""A real rack's secrets: never under a published passphrase, in settings or in state."""

import base64
import hashlib
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rackwright.errors import DeclarationError, SetupError
from rackwright.fleet.source import parse
from rackwright.schema.secret import LAB_PASSPHRASE
from rackwright.stack import load_stack, passphrase

ROOT = Path(__file__).parents[2]
LAB = "v1:yrbrUbR6gq4=:v1:aqnQ4Ibdap26KGfh:rcOWsK049bc8D066cXuEFUlNRFfYHw=="
"""Of stacks/Pulumi.lab.yaml, as pulumi wrote it."""


def salt_of(words: str) -> str:
    """Return the salt that pulumi writes for the passphrase *words*."""
    salt, nonce = os.urandom(8), os.urandom(12)
    key = hashlib.pbkdf2_hmac("sha256", words.encode(), salt, passphrase.ITERATIONS, 32)
    parts = (salt, nonce, AESGCM(key).encrypt(nonce, b"pulumi", None))
    first, second, third = (base64.b64encode(part).decode() for part in parts)
    return f"v1:{first}:v1:{second}:{third}"


OWN = salt_of("of my own")


@pytest.fixture
def project(tmp_path):
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks/real.yaml").write_text((ROOT / "stacks/rack.yaml").read_text())
    return tmp_path


def settings(project, target="rack", **more):
    lines = [f"{name}: {value}" for name, value in more.items()]
    lines += ["config:", "  rackwright:fleet: real.yaml", f"  rackwright:target: {target}"]
    (project / "stacks/Pulumi.real.yaml").write_text("\n".join([*lines, ""]))


def test_a_salt_of_pulumis_shows_which_published_passphrase_opens_it():
    assert passphrase.match_published(LAB) == "the lab's published passphrase"
    assert passphrase.match_published(salt_of("")) == "the empty passphrase"
    assert passphrase.match_published(OWN) is None


@pytest.mark.parametrize(("words", "name"), [(LAB_PASSPHRASE, "the lab's published"), ("", "the empty")])
def test_a_real_rack_under_a_published_passphrase_is_refused_with_the_way_out(project, words, name):
    settings(project, encryptionsalt=salt_of(words))
    with (project / "stacks/Pulumi.real.yaml").open("a") as file:
        file.write("  rackwright:secrets:\n    hot_key: {secure: 'v1:x:y'}\n")

    with pytest.raises(DeclarationError) as refused:
        load_stack("real", project)

    text = str(refused.value)
    assert f"stacks/Pulumi.real.yaml:1: encryptionsalt: got a salt that {name} passphrase opens" in text
    assert "pulumi stack change-secrets-provider passphrase --stack real`" in text
    assert "`rackwright secret set real hot_key`" in text


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"encryptionsalt": OWN},
        {"secretsprovider": "awskms://alias/rack", "encryptedkey": "AAAA"},
        {"secretsprovider": "awskms://alias/rack", "encryptionsalt": LAB},
    ],
)
def test_a_real_rack_of_its_own_is_taken(project, more):
    settings(project, **more)
    assert load_stack("real", project).twin is None


def test_a_twin_may_have_the_passphrase_of_the_lab(project):
    settings(project, target="twin:real", encryptionsalt=LAB)
    assert load_stack("real", project).twin == "real"


@pytest.mark.parametrize("salt", ["v2:a:v1:b:c", "v1:a:b", "v1:!:v1:!:!", "1"])
def test_a_salt_of_another_form_is_refused(project, salt):
    settings(project, encryptionsalt=salt)
    with pytest.raises(DeclarationError, match=r"Pulumi.real.yaml:1: encryptionsalt: got .* a salt has the form"):
        load_stack("real", project)


def test_only_the_verdict_that_none_opens_it_is_kept(project):
    """
    A salt that is public stays public, whatever lies in the project.
    """
    for _ in range(2):
        assert passphrase.match_published_once(OWN, project) is None
        assert passphrase.match_published_once(LAB, project) == "the lab's published passphrase"
    assert len([*(project / ".rackwright/passphrases").iterdir()]) == 1


def test_a_project_that_cannot_be_written_is_judged_all_the_same(tmp_path):
    (tmp_path / ".rackwright").write_text("a file, where a directory would be")
    assert passphrase.match_published_once(OWN, tmp_path) is None


def test_a_state_under_a_published_passphrase_is_refused(tmp_path):
    def state(salt):
        return {"secrets_providers": {"type": "passphrase", "state": {"salt": salt}}}

    with pytest.raises(DeclarationError, match="state of stack real: got secrets that the lab's published passphrase"):
        passphrase.check_state("real", state(LAB), tmp_path)
    with pytest.raises(DeclarationError, match="got secrets of an unknown form"):
        passphrase.check_state("real", state(None), tmp_path)
    passphrase.check_state("real", state(OWN), tmp_path)
    passphrase.check_state("real", {"secrets_providers": {"type": "cloud", "state": {}}}, tmp_path)
    passphrase.check_state("real", {}, tmp_path)


@pytest.mark.parametrize("variables", [{}, {passphrase.TEXT: ""}, {passphrase.TEXT: LAB_PASSPHRASE}])
def test_nothing_is_encrypted_for_a_real_rack_without_a_passphrase_of_its_own(tmp_path, variables):
    with pytest.raises(SetupError, match="stack real: got .* need a private passphrase or a secrets provider"):
        passphrase.require_own_passphrase(parse(tmp_path, "config: {}"), "real", variables)


def test_a_file_with_the_published_passphrase_is_none_of_its_own(tmp_path):
    (tmp_path / "lab").write_text(f"{LAB_PASSPHRASE}\n")
    (tmp_path / "own").write_text("of my own\n")
    source = parse(tmp_path, "config: {}")

    with pytest.raises(SetupError, match="got the lab's published passphrase"):
        passphrase.require_own_passphrase(source, "real", {passphrase.FILE: str(tmp_path / "lab")})
    with pytest.raises(SetupError, match="got No such file or directory"):
        passphrase.require_own_passphrase(source, "real", {passphrase.FILE: str(tmp_path / "none")})
    passphrase.require_own_passphrase(source, "real", {passphrase.FILE: str(tmp_path / "own")})
    passphrase.require_own_passphrase(parse(tmp_path, "secretsprovider: awskms://a\nconfig: {}"), "real", {})

"""Certificates: signed and proved by the real ssh-keygen, and found out when anything of them is not as it was."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from rackwright.erase.certificate import CertificateInvalid, sign, verify, write
from rackwright.errors import SetupError, StepFailed
from tests.support.erasure import certificate as made
from tests.support.erasure import new_key


@pytest.fixture
def written(tmp_path: Path, key: Path) -> Path:
    path = tmp_path / "erased.json"
    write(made(), path, key)
    return path


def test_a_certificate_is_proved_with_who_signed_it(written, tmp_path):
    assert verify(written, tmp_path / "signers") == (made(), "ada@example.org")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["ada", "ada.pub", "signers", "erased.json", "erased.json.sig"]
    )


def test_the_public_standard_tool_proves_it_as_well(written, tmp_path):
    argv = ["ssh-keygen", "-Y", "verify", "-f", tmp_path / "signers", "-I", "ada@example.org"]
    argv += ["-n", "rackwright-erasure", "-s", written.with_name("erased.json.sig")]

    done = subprocess.run(argv, input=written.read_bytes(), capture_output=True)

    assert done.returncode == 0, done.stderr


def test_a_changed_byte_is_found(written, tmp_path):
    text = written.read_text()
    written.write_text(text.replace("E-1", "E-2"))

    with pytest.raises(CertificateInvalid) as found:
        verify(written, tmp_path / "signers")

    assert found.value.exit_status == 1
    assert str(found.value) == (
        f"{written}: the signature of ada@example.org for rackwright-erasure does not match the file;"
        " an unchanged file that was signed for this purpose."
        " Copy the file and its signature again from their archive."
    )


def test_a_changed_signature_is_found(written, tmp_path):
    signature = written.with_name("erased.json.sig")
    lines = signature.read_text().splitlines()
    lines[-2] = lines[-2][::-1]
    signature.write_text("\n".join(lines))

    with pytest.raises(CertificateInvalid):
        verify(written, tmp_path / "signers")


def test_who_is_not_allowed_to_sign_has_not_signed(written, tmp_path):
    (tmp_path / "others").write_text(f"bob@example.org {new_key(tmp_path / 'bob')}\n")

    with pytest.raises(CertificateInvalid, match="no signer in .*others has signed the file"):
        verify(written, tmp_path / "others")


def test_a_signature_for_something_else_does_not_count(tmp_path, key):
    path = tmp_path / "erased.json"
    path.write_text(made().model_dump_json())
    argv = ["ssh-keygen", "-Y", "sign", "-q", "-n", "git", "-f", key, path]
    subprocess.run(argv, check=True, capture_output=True)

    with pytest.raises(CertificateInvalid, match="signed for this purpose"):
        verify(path, tmp_path / "signers")


def test_several_names_of_one_key_are_distinguished(written, tmp_path):
    (tmp_path / "signers").write_text(f"root@*,ada@example.org {(tmp_path / 'ada.pub').read_text()}")

    assert verify(written, tmp_path / "signers")[1] in ("root@*", "ada@example.org")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema_version": 2}, "schema_version: Input should be 1"),
        ({"drives": []}, "drives: "),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_what_is_signed_and_no_certificate_is_distinguished(tmp_path, key, change, expected):
    _signed(tmp_path, key, {**json.loads(made().model_dump_json()), **change})

    with pytest.raises(CertificateInvalid) as found:
        verify(tmp_path / "erased.json", tmp_path / "signers")

    assert f"ada@example.org signed a document that is not a certificate: {expected}" in str(found.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"blocks_with_content": 3}, "blocks_with_content: Input should be 0"),
        ({"bytes_read": 4096}, "4096 of 512000000 bytes were read back"),
    ],
)
def test_no_certificate_reports_a_drive_that_is_not_erased(tmp_path, key, change, expected):
    document = json.loads(made().model_dump_json())
    document["drives"][0]["verification"].update(change)
    _signed(tmp_path, key, document)

    with pytest.raises(CertificateInvalid, match=expected):
        verify(tmp_path / "erased.json", tmp_path / "signers")


def _signed(directory: Path, key: Path, document: object) -> None:
    (directory / "erased.json").write_text(json.dumps(document))
    (directory / "erased.json.sig").write_bytes(sign((directory / "erased.json").read_bytes(), key))


@pytest.mark.parametrize("missing", ["erased.json", "erased.json.sig", "signers"])
def test_a_file_that_is_not_there_is_named(written, tmp_path, missing):
    (tmp_path / missing).unlink()

    with pytest.raises(SetupError, match=f"{missing}: the file cannot be read: No such file or directory"):
        verify(written, tmp_path / "signers")


def test_a_key_that_cannot_sign_leaves_what_was_erased_unsigned(tmp_path):
    """
    After hours of erasing an agent may have forgotten the key.
    """
    (tmp_path / "key").write_text("no key\n")
    path = tmp_path / "erased.json"

    with pytest.raises(StepFailed) as failure:
        write(made(), path, tmp_path / "key")

    assert "Correct the cause, and run `ssh-keygen -Y sign -n rackwright-erasure" in str(failure.value)
    assert not path.exists()
    assert not path.with_name("erased.json.sig").exists()
    assert json.loads(path.with_name("erased.json.unsigned").read_text())["host"] == "gpu-01"


def test_without_ssh_keygen_it_is_reported(written, tmp_path, key, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(SetupError, match="the program ssh-keygen is missing"):
        verify(written, tmp_path / "signers")
    with pytest.raises(SetupError, match="the program ssh-keygen is missing"):
        sign(b"", key)


def test_a_public_key_is_signed_with_by_the_agent(tmp_path, key, monkeypatch):
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    content = dict(part.split("=") for line in started.splitlines() for part in line.split(";") if "=" in part)
    for name, value in content.items():
        monkeypatch.setenv(name, value)
    try:
        subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
        key.unlink()
        path = tmp_path / "erased.json"

        write(made(), path, key.with_suffix(".pub"))

        assert verify(path, tmp_path / "signers")[1] == "ada@example.org"
    finally:
        subprocess.run(["ssh-agent", "-k"], check=True, capture_output=True)


def test_a_write_that_fails_leaves_nothing_beside(tmp_path, key, monkeypatch):
    def fail(*arguments: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", fail)

    with pytest.raises(OSError):
        write(made(), tmp_path / "erased.json", key)
    assert not [path for path in tmp_path.iterdir() if "erased" in path.name]

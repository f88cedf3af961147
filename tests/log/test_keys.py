"""Keys: files and the agent, what is refused, and signatures that ssh-keygen accepts."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rackwright.errors import ChangeRefused, SetupError
from rackwright.log.keys import VARIABLE, armor, default_path, load_signer, read_public_key
from tests.support.operations_log import new_key

CONTENT = b'{"hash":"0","log":"1","sequence":2}'


def ssh_keygen(*arguments: str) -> None:
    subprocess.run(["ssh-keygen", "-q", *arguments], check=True)


def check_with_ssh_keygen(folder: Path, key: str, signature: str, content: bytes) -> int:
    (folder / "signers").write_text(f"auditor {key}\n")
    (folder / "sig").write_text(signature)
    argv = ["ssh-keygen", "-Y", "verify", "-n", "rackwright-log", "-I", "auditor", "-f", "signers", "-s", "sig"]
    return subprocess.run(argv, cwd=folder, input=content, capture_output=True).returncode


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    while not socket.exists():
        assert process.poll() is None
    yield
    process.terminate()
    process.wait()


def test_openssh_accepts_a_signature(tmp_path: Path) -> None:
    signer = load_signer({VARIABLE: str(new_key(tmp_path / "key"))}, None)
    signature = armor(signer.key, signer.sign(CONTENT))

    assert check_with_ssh_keygen(tmp_path, signer.key.text, signature, CONTENT) == 0
    assert check_with_ssh_keygen(tmp_path, signer.key.text, signature, CONTENT + b" ") != 0


def test_the_fingerprint_is_that_of_openssh(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")
    printed = subprocess.run(["ssh-keygen", "-l", "-f", key], check=True, capture_output=True, text=True).stdout

    assert load_signer({VARIABLE: str(key)}, None).key.fingerprint == printed.split()[1]


def test_the_agent_signs_as_the_file_does(tmp_path: Path, agent: None) -> None:
    ssh_keygen("-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    subprocess.run(["ssh-add", "-q", tmp_path / "key"], check=True)
    signer = load_signer({VARIABLE: str(tmp_path / "key.pub")}, None)
    file = load_signer({VARIABLE: str(tmp_path / "key")}, None)

    assert signer.sign(CONTENT) == file.sign(CONTENT), "Ed25519 has one signature of a content"
    assert file.key.verifies(CONTENT, signer.sign(CONTENT))
    assert not file.key.verifies(CONTENT + b" ", signer.sign(CONTENT))


def test_a_key_that_the_agent_does_not_have_is_named(tmp_path: Path, agent: None) -> None:
    new_key(tmp_path / "key")

    with pytest.raises(SetupError, match="the SSH agent does not have the private key"):
        load_signer({VARIABLE: str(tmp_path / "key.pub")}, None).sign(CONTENT)


def test_a_private_key_in_the_project_is_refused(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")

    with pytest.raises(ChangeRefused, match="is in the project"):
        load_signer({VARIABLE: str(key)}, tmp_path)
    assert load_signer({VARIABLE: str(key)}, tmp_path / "elsewhere").key.fingerprint.startswith("SHA256:")


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key = new_key(tmp_path / "key")
    key.chmod(0o640)

    with pytest.raises(SetupError, match="other accounts may read the private key"):
        load_signer({VARIABLE: str(key)}, None)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("-t", "ecdsa", "-N", ""), "the key is no Ed25519 key"),
        (("-t", "ed25519", "-N", "a passphrase"), "the private key has a passphrase"),
    ],
)
def test_another_key_is_refused_with_the_reason(tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    ssh_keygen(*arguments, "-f", str(tmp_path / "key"))

    with pytest.raises(SetupError, match=problem):
        load_signer({VARIABLE: str(tmp_path / "key")}, None)


@pytest.mark.parametrize("text", ["", "ssh-rsa AAAA", "ssh-ed25519 AAAA", "ssh-ed25519 !", "garbage"])
def test_a_file_that_is_no_public_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "key.pub").write_text(text)

    with pytest.raises(SetupError, match="the file is no public Ed25519 key"):
        read_public_key(tmp_path / "key.pub")


def test_the_default_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_HOME": str(tmp_path)}
    first, second = (load_signer(environment, None).key for _ in range(2))

    assert first == second
    assert default_path(environment).stat().st_mode & 0o777 == 0o600
    assert read_public_key(Path(os.fspath(default_path(environment)) + ".pub")) == first


def test_a_named_key_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="the file cannot be read: No such file"):
        load_signer({VARIABLE: str(tmp_path / "key")}, None)
    assert not (tmp_path / "key").exists()

"""The receipt is written to new files alone."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rackwright.cli import privacy
from rackwright.cli.privacy import NAMESPACE
from rackwright.errors import DeclarationError

RECEIPT = {
    "name": "digits", "step": 2, "epsilon": 0.5, "promised": {"epsilon": 1.0, "delta": 1e-5}, "unit": "record",
    "data": "digits",
}  # fmt: skip


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(privacy, "_ask", lambda *arguments: RECEIPT)
    path = tmp_path / "signer"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def receipt(tmp_path: Path, key: Path) -> None:
    arguments = ["receipt", "run", "--key", str(key), "--to", str(tmp_path / "receipt.json")]
    CliRunner().invoke(privacy.app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("name", ["receipt.json", "receipt.json.sig"])
def test_no_link_is_followed(tmp_path: Path, key: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DeclarationError, match=f"{name} is there"):
        receipt(tmp_path, key)
    assert not (tmp_path / "elsewhere").exists()
    assert sorted(file.name for file in tmp_path.glob("receipt*")) == [name]


def test_the_signature_is_that_of_the_receipt(tmp_path: Path, key: Path) -> None:
    receipt(tmp_path, key)
    (tmp_path / "signers").write_text(f"hospital {key.with_suffix('.pub').read_text()}")
    argv = ["ssh-keygen", "-Y", "verify", "-n", NAMESPACE, "-I", "hospital", "-f", str(tmp_path / "signers")]
    argv += ["-s", str(tmp_path / "receipt.json.sig")]
    done = subprocess.run(argv, input=(tmp_path / "receipt.json").read_bytes(), capture_output=True)
    assert done.returncode == 0, done.stderr

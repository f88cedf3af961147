"""The commands of encryption, on a file that stands for an array: keys that change, are sealed, and stay alone."""

import os
import subprocess
from pathlib import Path

import pytest

from rackwright.facts.probe import superblocks
from rackwright.kinds.tier import commands
from tests.support.drive_content import luks_format, sparse


@pytest.fixture
def disk(tmp_path) -> Path:
    """A LUKS header with the key first, which the host has."""
    path = tmp_path / "disk"
    sparse(path, 32)
    luks_format(path)
    (tmp_path / "key").write_text("first")
    return path


STAND_IN = """#!/bin/sh
for each; do case $each in --name=*) name=${each#--name=};; esac; done
case $1 in
encrypt)
  [ "$2 $3" = "--with-key=tpm2 --tpm2-pcrs=16" ] || exit 1
  (echo "$MAINBOARD $name"; (cat "$5"; printf %s "$MORE") | base64) > "$6" ;;
decrypt) [ "$(head -n 1 "$3")" = "$MAINBOARD $name" ] && sed 1d "$3" | base64 -d ;;
esac
"""
"""Of systemd-creds: what one mainboard has sealed another does not open, nor under another name."""


@pytest.fixture(autouse=True)
def cheap(tmp_path, monkeypatch):
    """Let cryptsetup make keys at little cost: to make them hard to guess takes seconds and up to a gigabyte."""
    real = subprocess.run(["sh", "-c", "command -v cryptsetup"], capture_output=True, text=True).stdout.strip()
    options = "--pbkdf-memory=32 --pbkdf-force-iterations=4"
    script = f'#!/bin/sh\ncase $1 in luksFormat|luksAddKey) set -- "$@" {options};; esac\nexec {real} "$@"\n'
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/cryptsetup").write_text(script)
    (tmp_path / "bin/cryptsetup").chmod(0o755)
    (tmp_path / "bin/systemd-creds").write_text(STAND_IN)
    (tmp_path / "bin/systemd-creds").chmod(0o755)
    monkeypatch.setenv("MAINBOARD", "one")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def run(argv) -> subprocess.CompletedProcess:
    return subprocess.run(
        argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ | {"LC_ALL": "C"}
    )


def opens(disk: Path, key: str) -> bool:
    argv = ["cryptsetup", "open", "--test-passphrase", "--type=luks2", "--key-file=-", disk]
    return subprocess.run(argv, input=key.encode(), capture_output=True).returncode == 0


def change(disk: Path) -> subprocess.CompletedProcess:
    return run(commands.change_key(str(disk), str(disk.with_name("key")), "hot"))


def seal(disk: Path, key: str, name: str = "key.cred.new") -> subprocess.CompletedProcess:
    disk.with_name("open").write_text(key)
    return run(commands.seal(str(disk.with_name("open")), str(disk.with_name(name))))


def change_sealed(disk: Path, *before: str) -> subprocess.CompletedProcess:
    paths = [str(disk.with_name(name)) for name in ("key.cred", *before)]
    return run(commands.change_key(str(disk), paths[0], "hot", *paths[1:]))


def single(disk: Path) -> subprocess.CompletedProcess:
    return run(commands.single_key(str(disk), str(disk.with_name("key")), "hot"))


def test_a_new_key_takes_the_old_ones_place(disk, tmp_path):
    (tmp_path / "key.new").write_text("second")

    changed = change(disk)
    assert changed.returncode == 0, changed.stderr
    assert ((tmp_path / "key").read_text(), (tmp_path / "key.new").exists()) == ("second", False)
    assert (opens(disk, "first"), opens(disk, "second")) == (True, True)
    assert single(disk).returncode == 0
    assert (opens(disk, "first"), opens(disk, "second")) == (False, True)
    assert superblocks.luks(str(disk))["key_slots"] == 1


def test_a_change_that_was_cut_off_is_gone_on_with(disk, tmp_path):
    """
    After the slot was added, and before the file took its place: no slot is added twice.
    """
    (tmp_path / "key.new").write_text("second")
    argv = ["cryptsetup", "luksAddKey", "--batch-mode", f"--key-file={tmp_path}/key", disk, tmp_path / "key.new"]
    assert run(argv).returncode == 0

    assert change(disk).returncode == 0
    assert superblocks.luks(str(disk))["key_slots"] == 2
    assert single(disk).returncode == 0
    assert (opens(disk, "first"), opens(disk, "second")) == (False, True)


def test_a_host_that_lost_its_key_gets_the_declared_one(disk, tmp_path):
    (tmp_path / "key").rename(tmp_path / "key.new")

    assert change(disk).returncode == 0
    assert (tmp_path / "key").read_text() == "first"
    assert superblocks.luks(str(disk))["key_slots"] == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_wrong_key_changes_nothing_and_says_what_mends_it(disk, tmp_path, there):
    (tmp_path / "key.new").write_text("wrong")
    (tmp_path / "key").write_text("wrong, too") if there else (tmp_path / "key").unlink()
    before = disk.read_bytes()

    done = change(disk)

    output = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert output.startswith(
        f"neither {tmp_path}/key nor the declared secret opens the LUKS header of hot, and no key slot"
    )
    assert "give the secret the value that it had" in output
    assert disk.read_bytes() == before
    assert not (tmp_path / "key.new").exists()


def test_the_last_key_is_not_taken_away_by_one_that_does_not_open(disk, tmp_path):
    (tmp_path / "key").write_text("wrong")
    before = disk.read_bytes()

    done = single(disk)

    assert done.returncode == 1
    assert f"{tmp_path}/key does not open the LUKS header of hot" in done.stderr
    assert disk.read_bytes() == before


def test_a_copy_of_the_header_is_roots_and_of_today(disk, tmp_path):
    path = tmp_path / "header"
    path.write_text("an older one")

    argv = commands.copy_header(str(disk), str(tmp_path / "key"), "hot", str(path))
    done = run(argv)

    assert done.returncode == 0, done.stderr
    assert superblocks.luks(str(path)) == superblocks.luks(str(disk))
    assert oct(path.stat().st_mode) == "0o100600"
    assert not (tmp_path / "header.new").exists()
    copied = path.read_bytes()
    (tmp_path / "key").write_text("of another time")
    assert "does not open the LUKS header of hot" in run(argv).stderr
    assert path.read_bytes() == copied


def test_a_header_is_created_again_and_only_its_key_opens_it(disk, tmp_path):
    uuid = superblocks.luks(str(disk))["uuid"]
    (tmp_path / "key").write_text("third\n")

    done = run(commands.encrypt(str(disk), str(tmp_path / "key"), "not-open-here"))

    assert done.returncode == 0, done.stderr
    assert superblocks.luks(str(disk))["uuid"] != uuid
    assert (opens(disk, "third\n"), opens(disk, "third"), opens(disk, "first")) == (True, False, False)


@pytest.mark.parametrize("key", ["second", "Ágnes' \u2116 2\n", "%s\\n $HOME `id`"])
def test_a_sealed_key_is_taken_by_its_letters_and_is_open_nowhere(disk, tmp_path, key):
    done = seal(disk, key)
    assert done.returncode == 0, done.stderr
    sealed = tmp_path / "key.cred.new"
    assert (oct(sealed.stat().st_mode), (tmp_path / "open").exists()) == ("0o100600", False)

    done = change_sealed(disk, "key")

    assert done.returncode == 0, done.stderr
    assert (opens(disk, "first"), opens(disk, key)) == (True, True)
    (tmp_path / "key").unlink()
    argv = commands.single_key(str(disk), str(tmp_path / "key.cred"), "hot")
    assert run(argv).returncode == 0
    assert (opens(disk, "first"), opens(disk, key)) == (False, True)


@pytest.mark.parametrize("flaw", [("MAINBOARD", "one\ntwo"), ("MORE", "than the key")], ids=["locked", "another"])
def test_what_does_not_open_to_the_key_is_not_kept(disk, tmp_path, monkeypatch, flaw):
    """
    However the sealing ends, the open key is not left either.
    """
    monkeypatch.setenv(*flaw)

    done = seal(disk, "second")

    assert done.returncode == 1
    assert "the TPM does not open what it has sealed" in done.stderr
    assert not (tmp_path / "open").exists()
    assert not (tmp_path / "key.cred.new").exists()


def test_the_first_key_makes_its_folder(disk, tmp_path):
    done = run(commands.seal(str(tmp_path / "key"), str(tmp_path / "tiers/key.cred")))
    assert done.returncode == 0, done.stderr
    assert oct((tmp_path / "tiers").stat().st_mode) == "0o40755"


def test_on_another_mainboard_the_secret_opens_and_is_sealed_again(disk, tmp_path, monkeypatch):
    assert seal(disk, "first", "key.cred").returncode == 0
    monkeypatch.setenv("MAINBOARD", "two")
    assert run(commands.single_key(str(disk), str(tmp_path / "key.cred"), "hot")).returncode == 1
    before = disk.read_bytes()

    assert seal(disk, "first").returncode == 0
    assert change_sealed(disk).returncode == 0

    assert disk.read_bytes() == before
    assert run(commands.single_key(str(disk), str(tmp_path / "key.cred"), "hot")).returncode == 0


def test_on_another_mainboard_another_secret_changes_nothing(disk, tmp_path, monkeypatch):
    assert seal(disk, "first", "key.cred").returncode == 0
    monkeypatch.setenv("MAINBOARD", "two")
    assert seal(disk, "second").returncode == 0
    before = disk.read_bytes()

    done = change_sealed(disk)

    assert done.returncode == 1
    assert f"neither {tmp_path}/key.cred nor the declared secret opens" in done.stderr
    assert disk.read_bytes() == before


def test_a_key_that_is_not_there_is_not_an_empty_one(disk, tmp_path):
    (tmp_path / "key").unlink()

    assert single(disk).returncode == 1
    assert run(commands.encrypt(str(disk), str(tmp_path / "key"), "not-open-here")).returncode == 1
    assert opens(disk, "first")

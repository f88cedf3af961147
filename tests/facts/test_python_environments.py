"""Python environments are as pip installed them: each change by hand is named, and pip's own files are not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rackwright.facts.probe import digest_cache, python_environments
from rackwright.facts.probe.observe import attempt
from tests.support.python_environment import CHANGES, PLACE, SALT, Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    old = os.umask(0o022)
    try:
        return Host(tmp_path)
    finally:
        os.umask(old)


def test_an_environment_as_pip_makes_it_has_nothing_odd(host: Host) -> None:
    # a package of its own files, without a list: a name that a role gives
    for name, content in (("METADATA", "Name: vllm\n"), ("INSTALLER", "rackwright\n"), ("RECORD", "")):
        host.write(f"lib/python3.11/site-packages/vllm-1.0.dist-info/{name}", content)
    host.bytecode.unlink()  # written by the first import, or never

    assert host.odd() == []


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_by_hand_is_named(host: Host, name: str) -> None:
    change, expected = CHANGES[name]
    change(host)

    assert host.odd() == expected


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_package_of_another_account_is_named(host: Host) -> None:
    os.chown(host.source.parent, 65534, 65534)

    assert host.odd() == ["lib/python3.11/site-packages/zeug: owner nobody:nogroup"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give capabilities")
def test_a_capability_is_named(host: Host) -> None:
    value = bytes.fromhex("0100000200040000000000000000000000000000")
    os.setxattr(host.program, "security.capability", value)

    assert host.odd() == ["bin/zeug: capabilities"]


def test_many_odd_files_are_bounded(host: Host) -> None:
    for number in range(50):
        host.write(f"lib/python3.11/site-packages/m{number:02}.py", "")

    assert len(host.odd()) == python_environments.SHOWN + 1 and host.odd()[-1] == "30 more"


def test_a_list_that_cannot_be_read_is_unknown(host: Host) -> None:
    host.write("lib/python3.11/site-packages/zeug-1.0.dist-info/RECORD", "a,b\n")

    assert "a row of 2 fields" in host.odd()["unknown"]


def test_a_list_that_names_files_outside_is_odd(host: Host) -> None:
    host.write("lib/python3.11/site-packages/more-1.dist-info/RECORD", "../../../../x,,\nmore-1.dist-info/RECORD,,\n")

    assert host.odd() == ["lib/python3.11/site-packages/more-1.dist-info/RECORD lists a file outside: ../../../../x"]


def test_without_time_unchanged_files_hold_and_changed_ones_are_unknown(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python_environments, "UNCHANGED_SECONDS", -1.0)
    monkeypatch.setattr(python_environments, "CHANGED_SECONDS", -1.0)
    assert host.odd() == []

    host.source.write_text("x = 2\n")
    assert "take more than" in host.odd()["unknown"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root keeps digests")
def test_digests_of_an_earlier_probe_are_used_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    (host.root / "var/cache").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(digest_cache, "SETTLED_SECONDS", -1.0)
    monkeypatch.setattr(digest_cache, "kept_devices", lambda: frozenset({host.top.stat().st_dev}))
    assert host.odd() == []
    monkeypatch.setattr(python_environments, "sha256", lambda path: pytest.fail(f"{path} is read again"))

    assert host.odd() == []


def test_an_environment_that_venv_and_pip_have_just_made_has_nothing_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / PLACE[1:]
    place.parent.mkdir(parents=True)
    old = os.umask(0o022)
    try:
        subprocess.run((sys.executable, "-m", "venv", "--clear", place), check=True)
    finally:
        os.umask(old)
    home = next(line.split(" = ")[1] for line in (place / "pyvenv.cfg").read_text().splitlines() if "home" in line)
    monkeypatch.setattr(python_environments, "HOME", home)
    monkeypatch.setattr(python_environments, "LINK", re.compile(rf"(?:{home}/)?python[0-9.]*"))
    assert attempt(python_environments.environment_files, str(tmp_path), SALT) == {PLACE: []}

"""The inventory: without secrets and saying so, or whole and in memory alone."""

import base64
import stat
from pathlib import Path

import pytest

from rackwright.cli import inventory
from rackwright.errors import ChangeRefused
from rackwright.stack import Stack, load_stack
from tests.support.ansible_inventory import read_inventory
from tests.support.fleet_with_secrets import BOTH, FLEET, configure

FIRST, SECOND = "the-first-value", "the-second-value"
KEYS = "/etc/chrony/chrony.keys"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "example.yaml").write_text(FLEET)
    monkeypatch.chdir(tmp_path)
    configure(tmp_path, BOTH)
    return load_stack("lab", tmp_path).with_secrets({"first_key": FIRST, "second_key": SECOND})


@pytest.mark.parametrize("known", [True, False])
def test_what_depends_on_a_secret_is_left_out_and_named(stack, capsys, known):
    report = inventory.public(stack if known else stack.without_secrets)

    groups = read_inventory(report)
    host = groups["all"]["hosts"]["alpha"]
    assert "base_ntp_keys" not in host
    assert "/etc/chrony/chrony.conf" in {file["path"] for file in host["base_files"]}
    assert KEYS not in {file["path"] for file in host["base_files"]}
    assert capsys.readouterr().err.splitlines() == [
        f"{name}/base: left out, as secrets are in it: {KEYS}, base_ntp_keys; --secrets DIR includes it"
        for name in ("alpha", "beta")
    ]
    assert FIRST not in report and "the secret first_key" not in report
    assert groups["all"]["children"] == {"base": {"hosts": {"alpha": {}, "beta": {}}}}


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that passes for one in memory."""
    monkeypatch.setattr(inventory, "in_memory", lambda path: True)
    place = tmp_path / "memory"
    place.mkdir(mode=0o700)
    return place


def test_the_whole_of_it_is_for_its_owner_alone(stack, memory):
    path = inventory.write(stack, memory)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in memory.iterdir()] == ["inventory.yml"]
    host = read_inventory(path.read_text())["all"]["hosts"]["alpha"]
    assert host["base_ntp_keys"][0]["key"] == FIRST
    [keys] = [file for file in host["base_files"] if file["path"] == KEYS]
    assert keys["secret"] is True
    assert f"2 SHA256 {SECOND}\n" in base64.b64decode(keys["content"]).decode()


def test_a_directory_that_others_may_look_into_is_refused(stack, memory):
    memory.chmod(0o750)

    with pytest.raises(
        ChangeRefused, match="the directory has mode 0750; a directory of yours with mode 0700"
    ) as caught:
        inventory.write(stack, memory)
    assert "Create one with `mktemp -d -p /dev/shm`" in str(caught.value)
    assert list(memory.iterdir()) == []


def test_no_directory_is_refused(stack, memory):
    with pytest.raises(ChangeRefused, match="no such directory"):
        inventory.write(stack, memory / "none")


def test_a_directory_on_a_disk_is_refused(stack, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "in_memory", lambda path: False)

    with pytest.raises(ChangeRefused, match="not on a tmpfs or ramfs"):
        inventory.write(stack, tmp_path)

"""Tables of mounts, and the directories from which systemd takes extensions, credentials and accounts by itself."""

import pytest

from rackwright.facts.probe import boot
from tests.support.fabricated_machine import FabricatedMachine


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def test_lines_of_mounts_are_read_without_comments_and_secrets(machine):
    machine.write(
        "etc/fstab",
        "# a comment\nUUID=0a-1 / ext4 errors=remount-ro 0 1\n\n//nas/x /mnt/a\\040b cifs password=geheim,ro 0 0\n",
    )
    machine.write("etc/crypttab", "sda3_crypt UUID=0b none luks,discard\ndata /dev/sdb1\n")
    found = boot.boot(machine.top)

    assert found["mounts"] == [
        {"line": 2, "what": "UUID=0a-1", "where": "/", "type": "ext4", "options": "errors=remount-ro"},
        {"line": 4, "what": "//nas/x", "where": "/mnt/a b", "type": "cifs", "options": "password=***,ro"},
    ]
    assert [(row["name"], row["options"]) for row in found["mappings"]] == [
        ("sda3_crypt", "luks,discard"),
        ("data", ""),
    ]


PATHS = [f"{folder[1:]}/x.nspawn" for folders in boot.PLACES.values() for folder in folders]


@pytest.mark.parametrize("path", PATHS)
def test_a_thing_in_each_directory_is_named(machine, path):
    machine.write(path, "x")

    assert [*boot.boot(machine.top)["additions"]] == [f"/{path}"]


def test_what_systemd_itself_makes_is_not_named(machine):
    for path in boot.OF_SYSTEMD:
        machine.write(path[1:], "")
    (machine.root / "var/lib/extensions/empty").mkdir(parents=True)
    machine.write("run/systemd/nspawn/locks/x", "")
    (machine.root / "var/lib/machines").mkdir(parents=True)

    assert boot.boot(machine.top) == {"mounts": [], "mappings": [], "additions": {}}


def test_a_link_is_named_and_not_followed(machine):
    (machine.root / "run/extensions").mkdir(parents=True)
    (machine.root / "run/extensions/x").symlink_to("/tmp")

    assert boot.boot(machine.top)["additions"]["/run/extensions/x"]["sort"] == "extension"


def test_many_names_are_cut(machine, monkeypatch):
    monkeypatch.setattr(boot, "ROWS", 3)
    for number in range(9):
        machine.write(f"etc/userdb/{number}.user", "{}")

    assert len(boot.boot(machine.top)["additions"]) == 3

"""Exports of NFS, kernel names in files, and tables of packet filters of a fabricated machine."""

import struct

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import netlink, nftables, offers
from tests.support.fabricated_machine import FabricatedMachine


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def test_exports_of_files_and_of_the_running_server_are_listed_once(machine):
    machine.write(
        "etc/exports", '# none\n/srv 10.0.0.0/24(rw) \\\n  *(ro)\n"/srv/two words" *\n/srv/with\\040blank *\n'
    )
    machine.write("etc/exports.d/more.exports", "/more\n")
    machine.write("etc/exports.d/ignored", "/ignored *\n")
    machine.write("var/lib/nfs/etab", "/srv\t*(ro)\n/by-hand\t*(rw)\n")

    found = Facts({"nfs_exports": offers.nfs_exports(machine.top)}).nfs_exports

    assert [(export.path, export.directory, export.clients) for export in found] == [
        ("/etc/exports", "/srv", ("10.0.0.0/24(rw)", "*(ro)")),
        ("/etc/exports", "/srv/two words", ("*",)),
        ("/etc/exports", "/srv/with blank", ("*",)),
        ("/etc/exports.d/more.exports", "/more", ()),
        ("/var/lib/nfs/etab", "/by-hand", ("*(rw)",)),
    ]


def test_a_file_of_exports_with_comments_alone_exports_nothing(machine):
    machine.write("etc/exports", "# /srv/homes hostname1(rw,sync)\n#\n")

    assert offers.nfs_exports(machine.top) == []


def test_names_of_the_kernel_are_found_and_stable_names_are_not(machine):
    machine.write(
        "etc/fstab",
        "# was on /dev/sdz1\nUUID=1 / ext4\n/dev/sda1 /a ext4\n/dev/nvme0n1p2 /b xfs\n/dev/disk/by-id/nvme-x /c xfs\n"
        "/dev/mapper/x /d xfs\n/dev/md/data /e xfs\n/dev/sdb /f xfs\n",
    )
    machine.write("etc/crypttab", "x /dev/md127 none\n")

    assert Facts({"kernel_names": offers.kernel_names(machine.top)}).kernel_names() == {
        "/etc/fstab": ("/dev/nvme0n1p2", "/dev/sda1", "/dev/sdb"),
        "/etc/crypttab": ("/dev/md127",),
    }


def message(family: int, name: bytes) -> bytes:
    """Return the kernel's message about a table: family, version, and the attribute of its name."""
    attribute = struct.pack("=HH", 4 + len(name) + 1, netlink.TABLE_NAME) + name + b"\0"
    return struct.pack("=BBH", family, 0, 0) + attribute.ljust(netlink.align(len(attribute)), b"\0")


def test_tables_of_both_generations_of_packet_filters_are_listed(machine, monkeypatch):
    (machine.root / "sys/module/nf_tables").mkdir(parents=True)
    machine.write("proc/net/ip_tables_names", "filter\nnat\n")
    tables = [message(1, b"rackwright_x"), message(10, b"sniff"), message(99, b"odd")]
    monkeypatch.setattr(netlink, "dump", lambda request, protocol: tables)

    assert Facts({"packet_filters": nftables.packet_filters(machine.top)}).packet_filters == (
        "99 odd",
        "inet rackwright_x",
        "ip filter of the older iptables",
        "ip nat of the older iptables",
        "ip6 sniff",
    )


def test_a_kernel_without_nftables_is_not_asked(machine, monkeypatch):
    running = "lib/modules/6.1.0"
    machine.write("proc/sys/kernel/osrelease", "6.1.0\n")
    machine.write(f"{running}/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
    monkeypatch.setattr(netlink, "dump", lambda request, protocol: pytest.fail("asked"))

    assert nftables.packet_filters(machine.top) == []

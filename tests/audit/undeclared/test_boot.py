"""Lines of installers stay silent, and every other line of mounts and mappings is a finding."""

from dataclasses import replace
from typing import Any

import pytest

from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from tests.support.converged_host import converged, declared, with_more


def found(mounts: list[str] = [], mappings: list[str] = [], declaration: Any = None) -> list[str]:  # noqa: B006
    raw = converged()
    for key, names, rows in (
        ("mounts", ("what", "where", "type", "options"), mounts),
        ("mappings", ("name", "device", "key", "options"), mappings),
    ):
        raw["boot"][key] = [
            {"line": number, **dict(zip(names, [*row.split(), "", "", ""], strict=False))}
            for number, row in enumerate(rows)
        ]
    return [finding.thing for finding, _ in apply(RULES["RW-153"], Facts(raw), declaration or declared())]


@pytest.mark.parametrize(
    "line",
    [
        "UUID=0a-1 / ext4 errors=remount-ro",
        "/dev/mapper/vg-root / ext4 errors=remount-ro",
        "PARTUUID=0a / ext4 rw,discard,errors=remount-ro,x-systemd.growfs",
        "UUID=0A-1B /boot/efi vfat umask=0077",
        "UUID=0a none swap sw",
        "/swap.img none swap sw",
        "/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto",
        "tmpfs /tmp tmpfs defaults,nosuid",
        "LABEL=cloudimg-rootfs / ext4 discard",
        "/dev/disk/by-uuid/0a /home xfs defaults",
    ],
)
def test_a_line_of_an_installer_is_not_found(line):
    assert found([line]) == []


@pytest.mark.parametrize(
    "line",
    [
        "/dev/sdb1 /mnt ext4 defaults",
        "/root/x.img /usr ext4 loop",
        "/root/x.img /usr ext4 defaults",
        "/opt/evil /usr none bind",
        "nas:/export /home nfs defaults",
        "//nas/x /srv cifs credentials=/root/x",
        "overlay /usr overlay lowerdir=/usr,upperdir=/opt/x",
        "tmpfs /etc tmpfs defaults",
        "/srv/hot/swapfile none swap sw",
        "UUID=0a / ext4 x-systemd.requires=evil.service",
        "evil /media/cdrom0 fuse user",
        "proc /proc proc hidepid=2",
    ],
)
def test_another_line_is_found(line):
    assert len(found([line])) == 1


def test_two_lines_for_one_place_are_found():
    assert found(["UUID=0a / ext4 defaults", "UUID=0b / ext4 defaults"]) == ["mount_line:/", "mount_line:/"]


def test_a_claimed_mount_is_compared_there():
    assert found(["UUID=0a /srv/hot xfs noatime"]) == ["mount_line:/srv/hot"]
    assert found(["UUID=0a /srv/hot xfs noatime"], declaration=with_more(declared(), "mount:/srv/hot")) == []


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("sda3_crypt UUID=0a none luks,discard", False),
        ("dm_crypt-0 UUID=0a none luks", False),
        ("cryptswap1 /dev/sda5 /dev/urandom swap,cipher=aes-xts-plain64,size=512", False),
        ("data UUID=0a none luks", True),
        ("sda3_crypt UUID=0a /etc/key luks", True),
        ("sda3_crypt UUID=0a none luks,keyscript=/opt/x", True),
        ("sda3_crypt /root/x.img none luks", True),
        ("sda3_crypt UUID=0a none luks,tmp", True),
    ],
)
def test_a_mapping_is_one_of_an_installer_or_a_finding(line, is_found):
    assert len(found(mappings=[line])) == is_found


def test_a_claimed_mapping_is_compared_there():
    assert found(mappings=["hot UUID=0a none luks"], declaration=with_more(declared(), "luks:hot")) == []


def test_parameters_are_compared_where_grub_starts_the_host():
    raw = converged()
    raw["grub_parameters"] = {"/etc/default/grub": ["audit=1"]}
    raw["kernel_parameters"] = ["root=/dev/sda1", "quiet"]
    assert [*apply(RULES["RW-155"], Facts(raw), declared())] == []

    raw["kernel_parameters"] = ["BOOT_IMAGE=/vmlinuz", "audit=1"]
    assert [*apply(RULES["RW-155"], Facts(raw), declared())] == []

    raw["kernel_parameters"] = ["BOOT_IMAGE=/vmlinuz", "audit=0"]
    assert len([*apply(RULES["RW-155"], Facts(raw), declared())]) == 1


@pytest.mark.parametrize("target", ["/lib/systemd/system/rescue.target", "/usr/lib/systemd/system/graphical.target"])
def test_another_default_target_is_found(target):
    raw = converged()
    path = "/etc/systemd/system/default.target"
    raw["unpackaged"].append(path)
    raw["files"][path] = {"digest": f"-> {target}", "mode": "0777", "owner": "root:root", "mtime_ns": 1}

    assert [finding.thing for finding, _ in apply(RULES["RW-080"], Facts(raw), declared())] == [f"file:{path}"]


def test_a_declared_extension_is_not_found():
    raw = converged()
    raw["boot"]["additions"]["/etc/credstore/x"] = {"sort": "credential", "owner": "root:root"}
    own = replace(declared(), wants={**declared().wants, "file:/etc/credstore/x": {"content": "x"}})

    assert [finding.found for finding, _ in apply(RULES["RW-154"], Facts(raw), declared())] == [
        "a credential, owner root:root"
    ]
    assert [*apply(RULES["RW-154"], Facts(raw), own)] == []


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("auto lo\niface lo inet loopback\n", False),
        ("iface eth0 inet static\n  address 192.0.2.1/24\n  gateway 192.0.2.254\n", False),
        ("iface eth0 inet static\n  gateway 203.0.113.1\n", True),
        ("iface eth0 inet static\n  dns-nameservers 192.0.2.53\n", False),
        ("iface eth0 inet static\n  dns-nameservers 192.0.2.53 203.0.113.53\n", True),
        ("iface eth0 inet static\n  dns-search evil.example\n", True),
        ("# gateway 203.0.113.1\n", False),
    ],
)
def test_a_gateway_that_the_host_does_not_use_is_found(text, is_found):
    raw = converged()
    raw["texts"]["/etc/network/interfaces"] = text
    raw["routes"].append({"destination": "default", "gateway": "192.0.2.254", "link": "eth0", "metric": 0})
    raw |= {"resolvers": ["192.0.2.53"], "search_domains": ["example.org"]}

    assert bool([*apply(RULES["RW-157"], Facts(raw), declared())]) == is_found


UUID = "0a1b2c3d:0a1b2c3d:0a1b2c3d:0a1b2c3d"


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        (f"ARRAY /dev/md/hot metadata=1.2 UUID={UUID} name=alpha:hot", False),
        (f"ARRAY /dev/md/alpha:hot UUID={UUID.upper()}", False),
        (f"ARRAY /dev/md0 UUID={UUID}", False),
        (f"ARRAY /dev/md/other UUID={UUID}", True),
        (f"ARRAY <ignore> UUID={UUID}", True),
        ("ARRAY /dev/md/x UUID=ffffffff:ffffffff:ffffffff:ffffffff", True),
        ("ARRAY /dev/md/x devices=/dev/sda,/dev/sdb", True),
        ("# ARRAY /dev/md/x UUID=ffffffff:ffffffff:ffffffff:ffffffff", False),
        ("HOMEHOST <system>", False),
    ],
)
def test_a_line_about_an_array_names_one_that_runs(line, is_found):
    raw = converged()
    raw["texts"]["/etc/mdadm/mdadm.conf"] = f"{line}\n"
    raw["arrays"].append({"md_name": "alpha:hot", "uuid": UUID, "level": "raid1", "devices": 2})

    assert bool([*apply(RULES["RW-156"], Facts(raw), declared())]) == is_found

"""A virtual machine with a tier of two drives, for tests of drives with existing data."""

import re
from pathlib import Path
from shlex import quote

import yaml

from rackwright.twin import faults
from tests.support.expect import need
from tests.support.images import digest
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.tiers import DEVICE

HOST, TIER, MOUNT = "alpha", "hot", "/srv/hot"
CARRIES, BLANK = "RW-CARRIES", "RW-BLANK"
"""The members: one drive with existing data, and one blank drive."""
LINE = re.compile(rf'write under hosts\.{HOST}\.wipe: \{{{CARRIES}: "([^"]*)"\}}')
OPTION = re.compile(rf"--consent '?{CARRIES}=([^'`]*)")


def fleet() -> str:
    drives = [{"serial": "RW-BOOT", "boot": True}]
    drives += [{"serial": serial, "bus": "sas", "size": "512MB", "tier": TIER} for serial in (CARRIES, BLANK)]
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "tiers": {TIER: {"level": "raid1", "mount": MOUNT, "filesystem": "xfs"}},
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:09", "addresses": ["10.32.0.9/24"]}],
    }
    return yaml.safe_dump({"fleet": "consenting", "hosts": {HOST: host}}, sort_keys=False)


def lab(log: Log) -> Lab:
    return Lab(log.empty_directory() / "project", fleet(), log)


def on_drive(lab: Lab, script: str) -> str:
    """Run *script* in the guest, with the drive with data as "$dev" and its partition as "$part"."""
    find = f"{DEVICE}\ndev=$(device {quote(CARRIES)})\n[ -b $dev ]\npart=${{dev}}1\nmkdir -p /mnt/it"
    return lab.ssh(HOST, f"{find}\n{script}\nsync\nudevadm settle")


def partition(lab: Lab, script: str) -> None:
    """Create one partition on the drive, and run *script* on it."""
    on_drive(lab, f'parted -s "$dev" mklabel gpt mkpart one 1MiB 100%\nudevadm settle\n{script}')


def write_a_file(lab: Lab, text: str) -> None:
    """Mount the partition, write a file, and unmount it."""
    on_drive(lab, f'mount "$part" /mnt/it\necho {quote(text)} > /mnt/it/file\numount /mnt/it')


def image(lab: Lab) -> Path:
    return lab.twin.layout.disk(HOST, CARRIES)


def sum_of(lab: Lab) -> str:
    """Return a digest of the drive's image, read while the host is paused."""
    lab.ssh(HOST, "sync; udevadm settle")
    with faults.pause_processor(lab.twin, HOST):
        return digest(image(lab))


def refusal(lab: Lab, *options: str, status: int = 2) -> str:
    """Run `up`, which has to refuse without changing a byte of the drive; return its output."""
    before = sum_of(lab)
    done = lab.rackwright("up", lab.stack, *options, status=status)
    need(sum_of(lab) == before, f"up ended with {status}, and {CARRIES} is not as it was")
    return done.stdout + done.stderr


def consent_line(output: str) -> str:
    """Return the content that a refusal asks to write into the fleet."""
    match = LINE.search(output)
    need(match is not None, f"no line to write into the fleet: {output[-600:]}")
    assert match
    return match[1]


def option(output: str) -> str:
    """Return the content that a refusal asks to consent to with the command."""
    match = OPTION.search(output)
    need(match is not None, f"no consent to give with the command: {output[-600:]}")
    assert match
    return match[1]


def paste(lab: Lab, content: str) -> None:
    """Write a consent for the drive into the fleet."""

    def write(fleet: dict[str, dict[str, dict[str, object]]]) -> None:
        fleet["hosts"][HOST]["wipe"] = {CARRIES: content}

    lab.edit(write)

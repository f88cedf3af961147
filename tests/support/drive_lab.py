"""A virtual machine with a tier of two drives, for checks of what is written to drives that carry something."""

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
"""The members: one that carries something, and one that does not."""
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
    """Run *script* in the guest, "$dev" and "$part" being the drive that carries something and its partition."""
    find = f"{DEVICE}\ndev=$(device {quote(CARRIES)})\n[ -b $dev ]\npart=${{dev}}1\nmkdir -p /mnt/it"
    return lab.ssh(HOST, f"{find}\n{script}\nsync\nudevadm settle")


def partition(lab: Lab, script: str) -> None:
    """Give the drive one partition, and run *script* on it."""
    on_drive(lab, f'parted -s "$dev" mklabel gpt mkpart one 1MiB 100%\nudevadm settle\n{script}')


def write_a_file(lab: Lab, text: str) -> None:
    """Mount the partition, write a file, and unmount it."""
    on_drive(lab, f'mount "$part" /mnt/it\necho {quote(text)} > /mnt/it/file\numount /mnt/it')


def image(lab: Lab) -> Path:
    return lab.twin.layout.disk(HOST, CARRIES)


def sum_of(lab: Lab) -> str:
    """Return a digest of the drive's image, its host held still."""
    lab.ssh(HOST, "sync; udevadm settle")
    with faults.pause_processor(lab.twin, HOST):
        return digest(image(lab))


def refusal(lab: Lab, *options: str, status: int = 2) -> str:
    """Run up, which has to refuse and to leave the drive as it is to the last byte; return what it says."""
    before = sum_of(lab)
    done = lab.rackwright("up", lab.stack, *options, status=status)
    need(sum_of(lab) == before, f"up ended with {status}, and {CARRIES} is not as it was")
    return done.stdout + done.stderr


def consent_line(said: str) -> str:
    """Return the content that a refusal asks to write into the fleet."""
    found = LINE.search(said)
    need(found is not None, f"no line to write into the fleet: {said[-600:]}")
    assert found
    return found[1]


def option(said: str) -> str:
    """Return the content that a refusal asks to give up with the command."""
    found = OPTION.search(said)
    need(found is not None, f"no consent to give with the command: {said[-600:]}")
    assert found
    return found[1]


def paste(lab: Lab, content: str) -> None:
    """Write a consent for the drive into the fleet."""

    def write(fleet: dict[str, dict[str, dict[str, object]]]) -> None:
        fleet["hosts"][HOST]["wipe"] = {CARRIES: content}

    lab.edit(write)

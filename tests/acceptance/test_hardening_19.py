"""A drive is pulled while a unit waits for md, and another drive gets its kernel name: its superblock stays."""

from typing import Any

import yaml

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.replacement import HOST, SIZE, SYNC_SECONDS, keep_line, swap
from tests.support.tiers import DEVICE, Place, is_idle, md, places

FORMER, LEAVING, STAYING, COMING = "RW-FORMER", "RW-LEAVING", "RW-STAYING", "RW-COMING"
PULLED = {("alpha", f"drive:{LEAVING}"), ("alpha", "drives:alpha")}
"""Differences that remain: one declared drive is out of the machine."""
SLOW_KIB = 1000
WAITING = "rackwright-replace-alpha-hot.service"


def fleet() -> str:
    common = {"bus": "sas", "size": SIZE}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": [
            {"serial": "RW-BOOT", "boot": True},
            *({"serial": serial, **common, "tier": "hot"} for serial in (FORMER, STAYING)),
            *({"serial": serial, **common} for serial in (LEAVING, COMING)),
        ],
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:19", "addresses": ["10.32.0.19/24"]}],
        "tiers": {"hot": {"level": "raid1", "filesystem": "ext4", "mount": "/srv/hot"}},
    }
    return yaml.safe_dump({"fleet": "names", "hosts": {HOST: host}}, sort_keys=False)


@line("hardening", 19)
def test_a_reassigned_kernel_name_costs_a_drive_nothing(log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet(), log) as lab:
        lab.start()
        log("up")
        lab.up()
        [place] = places(lab.fleet)
        eventually(lambda: is_idle(lab, place), "the first sync ends", SYNC_SECONDS)

        log(f"{FORMER} is pulled, with its superblock, and {LEAVING} takes its place")
        faults.pull(lab.twin, HOST, FORMER)
        lab.ssh(HOST, f"echo noticed > {place.mount}/noticed; sync")
        swap(lab, FORMER, LEAVING)
        lab.up()
        eventually(lambda: is_idle(lab, place), "the rebuild ends", SYNC_SECONDS)
        # a drive that is plugged in gets the first name that is free: this one takes the name that FORMER had
        faults.pull(lab.twin, HOST, COMING)
        faults.insert(lab.twin, HOST, COMING)

        log(f"{COMING} takes the place of {LEAVING}; {LEAVING} is pulled while its unit waits for the copy")
        _speed(lab, place, SLOW_KIB)
        keep_line(lab, LEAVING, COMING)
        lab.up()
        name = _name(lab, LEAVING)
        need(name, f"{LEAVING} has no kernel name")
        faults.pull(lab.twin, HOST, LEAVING)
        lab.ssh(HOST, f"mdadm --quiet {place.device} --fail detached --remove detached || true; udevadm settle")
        declare_again(lab)
        faults.insert(lab.twin, HOST, FORMER)
        need((other := _name(lab, FORMER)) == name, f"{FORMER} is {other}, and {LEAVING} was {name}")
        need(lab.ssh(HOST, f"systemctl is-active {WAITING} || true") == "active", "no unit waits any more")
        before = _superblock(lab, FORMER)
        need(before, f"{FORMER} has no superblock of {place.resource}")

        log("the copy ends")
        _speed(lab, place, 500_000)
        ended = f"systemctl is-active {WAITING} || true"
        eventually(lambda: lab.ssh(HOST, ended) == "inactive", "the unit has done its part", SYNC_SECONDS)
        need(is_idle(lab, place), "the unit ended before md was at rest")
        need(_superblock(lab, FORMER) == before, f"the superblock of {FORMER}, {name} by then, was erased")
        journal = lab.ssh(HOST, f"journalctl --no-pager --output=cat --unit={WAITING}")
        need("Failed" not in journal, f"the unit has failed: {journal}")
        need(not (differing := lab.audit_differences() - PULLED), f"{format_claims(differing)} differ")
        return f"{LEAVING} was {name} when the unit began to wait, {FORMER} was when it ended, and kept its superblock"


def declare_again(lab: Lab) -> None:
    """Declare the former member as a drive without a tier, in the line where the twin had it."""

    def change(content: Any) -> None:
        content["hosts"][HOST]["drives"].insert(1, {"serial": FORMER, "bus": "sas", "size": SIZE})

    lab.edit(change)


def _speed(lab: Lab, place: Place, kib_per_second: int) -> None:
    folder = md(lab, place)
    lab.ssh(HOST, f"echo {min(kib_per_second, 1000)} > {folder}/sync_speed_min")
    lab.ssh(HOST, f"echo {kib_per_second} > {folder}/sync_speed_max")


def _name(lab: Lab, serial: str) -> str:
    return lab.ssh(HOST, f"{DEVICE}\ndevice {serial}")


def _superblock(lab: Lab, serial: str) -> str:
    """Return the array that the drive's superblock names, and the drive's own UUID in it."""
    script = f"""{DEVICE}
        mdadm --examine --export $(device {serial}) | grep -E '^MD_(UUID|DEV_UUID)=' || true"""
    return lab.ssh(HOST, script)

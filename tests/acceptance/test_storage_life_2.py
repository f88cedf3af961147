"""Tiers are grown: by one drive while they are used, by one that is cut off in the middle, by what members have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.tiers import Place, is_at_rest, is_idle, kib, md, places, read_file, require_whole_tier, write_file

HOST, SIZE = "alpha", "256MB"
SLOW_KIB = 2000
"""A reshape at this speed takes minutes, and can be cut off in the middle."""
RESHAPE_SECONDS = 900
LESS_KIB = 300_000
LESS = """
umount {place.mount}
e2fsck -fp {place.device}
resize2fs {place.device} $(({kib} - 10000))K
mdadm --grow {place.device} --size={kib}
mount {place.device} {place.mount}
"""
"""In sh: let a mirror use so much of each member."""


@dataclass(frozen=True)
class Case:
    """One tier, and the drive that waits in the machine to be added."""

    level: str
    bus: str
    members: int
    filesystem: str

    @property
    def serials(self) -> tuple[str, ...]:
        return tuple(f"RW-{self.level[4:]}-{number}" for number in range(self.members))

    @property
    def waiting(self) -> str:
        return f"RW-{self.level[4:]}-NEW"


MIRROR = Case("raid1", "nvme", 2, "ext4")
CASES = (Case("raid5", "sas", 3, "xfs"), Case("raid10", "nvme", 4, "ext4"))


def fleet(cases: Sequence[Case]) -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    for case in cases:
        common = {"bus": case.bus, "size": SIZE}
        drives += [{"serial": serial, **common, "tier": case.level} for serial in case.serials]
        drives.append({"serial": case.waiting, **common})
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:02", "addresses": ["10.32.0.2/24"]}],
        "tiers": {
            case.level: {"level": case.level, "filesystem": case.filesystem, "mount": f"/srv/{case.level}"}
            for case in cases
        },
    }
    return yaml.safe_dump({"fleet": "grown", "hosts": {HOST: host}}, sort_keys=False)


@line("storage-life", 2, part="grow")
def test_a_tier_grows_in_use_and_across_a_power_cut(log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet(CASES), log) as lab:
        lab.start()
        log("up")
        lab.up()
        done = []
        for case in CASES:
            place = _place(lab, case)
            eventually(lambda: is_idle(lab, place), f"the first sync of {place.resource} ends", RESHAPE_SECONDS)  # noqa: B023
            done.append(_grow(lab, case, cut=case is CASES[0]))
        return "; ".join(done)


@line("storage-life", 2, part="enlarge")
def test_a_tier_uses_all_of_larger_members(log: Log) -> str:
    """The rest of members that are larger than what is used of them: a twin has drives of one size, so less is used."""
    with Lab(log.empty_directory() / "project", fleet((MIRROR,)), log) as lab:
        lab.start()
        log("up")
        lab.up()
        place = _place(lab, MIRROR)
        eventually(lambda: is_idle(lab, place), f"the first sync of {place.resource} ends", RESHAPE_SECONDS)
        sum, before = write_file(lab, place), kib(lab, place)
        log("less is used of each member")
        lab.ssh(HOST, LESS.format(place=place, kib=LESS_KIB))
        [(resource, claim)] = {(name, claim) for name, claim in lab.differing() if claim.startswith("md:")}
        need(resource == place.resource, f"{claim} of {resource} differs")
        need((smaller := kib(lab, place)) < before, f"the filesystem still has {smaller} KiB")
        log("up")
        lab.up()
        need(kib(lab, place) == before, f"the filesystem has {kib(lab, place)} KiB, and had {before}")
        require_whole_tier(lab, place)
        need(not (differing := lab.differing()), f"afterwards: {format_claims(differing)} differ")
        need(read_file(lab, place) == sum, f"{place.file} is not what was written")
        return f"raid1: {smaller >> 10} MiB to {before >> 10} MiB of the same members"


def _grow(lab: Lab, case: Case, cut: bool) -> str:
    """Add the waiting drive; where *cut*, the host's reset button is pressed in the middle."""
    log, place = lab.log, _place(lab, case)
    sum, before = write_file(lab, place), kib(lab, place)
    if cut:
        lab.ssh(HOST, f"echo {SLOW_KIB} > {md(lab, place)}/sync_speed_max")

    def declare(content: Any) -> None:
        drives = {drive["serial"]: drive for drive in content["hosts"][HOST]["drives"]}
        drives[case.waiting]["tier"] = case.level

    lab.edit(declare)
    log(f"{case.level}: up with {case.waiting}")
    lab.up()
    if cut:
        position = lab.ssh(HOST, f"cat {md(lab, place)}/reshape_position")
        need(position.isdigit(), f"no reshape is under way when the reset is pressed: {position}")
        notices = [str(resource["notice"]) for resource in lab.audit(status=0)["resources"]]
        need(any("reshaping: " in notice for notice in notices), f"the audit does not say how far it is: {notices}")
        log(f"{case.level}: reset at sector {position}")
        faults.hard_reset(lab.twin, HOST, log.write)
        lab.up()
    need(not (differing := lab.differing()), f"{case.level}, while it grows: {format_claims(differing)} differ")
    eventually(lambda: is_at_rest(lab, place), f"the reshape of {place.resource} ends", RESHAPE_SECONDS)
    lab.up()  # after a restart nobody waits on the host to grow the filesystem
    eventually(lambda: kib(lab, place) > before * 1.2, f"the filesystem of {place.resource} has grown", 60)
    require_whole_tier(lab, _place(lab, case))
    need(not (differing := lab.differing()), f"{case.level}, afterwards: {format_claims(differing)} differ")
    need(read_file(lab, place) == sum, f"{place.file} is not what was written")
    return f"{case.level}: {before >> 10} MiB to {kib(lab, place) >> 10} MiB{', cut off in the middle' if cut else ''}"


def _place(lab: Lab, case: Case) -> Place:
    return next(place for place in places(lab.fleet) if place.name == case.level)

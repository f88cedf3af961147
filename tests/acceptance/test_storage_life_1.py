"""A drive dies: one resource differs, and another serial in its place is rebuilt. One that works is copied first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.replacement import HOST, SIZE, SYNC_SECONDS, keep_line, swap
from tests.support.tiers import Place, is_idle, places, read_file, require_whole_tier, write_file


@dataclass(frozen=True)
class Case:
    """One tier, how many members it has, and the drives that wait in the machine to take their places."""

    level: str
    bus: str
    members: int
    fails: int
    """How many die at once."""
    replaced: int = 0
    """How many that work are replaced after that."""
    ppl: bool = False
    """Whether it keeps a partial parity log."""

    @property
    def name(self) -> str:
        return self.level

    @property
    def serials(self) -> tuple[str, ...]:
        return self._named("", self.members)

    @property
    def waiting(self) -> tuple[str, ...]:
        return self._named("NEW", self.fails + self.replaced)

    def _named(self, sort: str, count: int) -> tuple[str, ...]:
        return tuple(f"RW-{self.level[4:]}-{sort}{number}" for number in range(count))


CASES = (
    Case("raid1", "nvme", 2, fails=1, replaced=1),
    Case("raid5", "sas", 3, fails=1, ppl=True),
    Case("raid6", "sas", 4, fails=2),
    Case("raid10", "nvme", 4, fails=1, replaced=1),
)


def fleet(cases: Sequence[Case]) -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    for case in cases:
        common = {"bus": case.bus, "size": SIZE}
        drives += [{"serial": serial, **common, "tier": case.name} for serial in case.serials]
        drives += [{"serial": serial, **common} for serial in case.waiting]
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:01", "addresses": ["10.32.0.1/24"]}],
        "tiers": {
            case.name: {
                "level": case.level,
                "filesystem": "ext4",
                "mount": f"/srv/{case.name}",
                **({"ppl": True} if case.ppl else {}),
            }
            for case in cases
        },
    }
    return yaml.safe_dump({"fleet": "life", "hosts": {HOST: host}}, sort_keys=False)


@line("storage-life", 1)
def test_a_failed_drive_is_replaced_and_rebuilt(log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet(CASES), log) as lab:
        lab.start()
        log("up")
        lab.up()
        done = []
        for case in CASES:
            place = _place(lab, case)
            eventually(lambda: is_idle(lab, place), f"the first sync of {place.resource} ends", SYNC_SECONDS)  # noqa: B023
            sum = write_file(lab, place)
            done.append(_fail(lab, case, sum))
            if case.replaced:
                done.append(_replace(lab, case, sum))
        return "; ".join(done)


def _fail(lab: Lab, case: Case, sum: str) -> str:
    lost, come = case.serials[: case.fails], case.waiting[: case.fails]
    place = _place(lab, case)
    lab.log(f"{case.name}: {', '.join(lost)} die")
    for serial in lost:
        faults.pull(lab.twin, HOST, serial)
    lab.ssh(HOST, f"echo noticed > {place.mount}/noticed; sync")
    eventually(lambda: len(lab.audit_differences()) > 0, f"{place.resource} differs", 60)
    differing = lab.differing()
    need({resource for resource, _ in differing} == {place.resource}, f"{format_claims(differing)} differ")
    done = lab.rackwright("preview", lab.stack, status=1)
    text = done.stdout + done.stderr
    for word in (place.resource, *lost, "degraded"):
        need(word in text, f"the preview does not name {word}")

    for old, new in zip(lost, come, strict=True):
        swap(lab, old, new)
    lab.log(f"{case.name}: up with {', '.join(come)}")
    lab.up()
    _is_clean(lab, case, "while it is rebuilt")
    _ends(lab, case, sum)
    return f"{case.level}: {len(lost)} of {case.members} died and were rebuilt"


def _replace(lab: Lab, case: Case, sum: str) -> str:
    place = _place(lab, case)
    old, new = place.serials[0], case.waiting[-1]
    keep_line(lab, old, new)
    lab.log(f"{case.name}: {new} in the place of {old}, which works")
    lab.up()
    need(_degraded(lab, place) == 0, f"{place.resource} lost redundancy")
    _is_clean(lab, case, "while it is copied")
    _ends(lab, case, sum)
    return f"{case.level}: one that worked was copied first"


def _degraded(lab: Lab, place: Place) -> int:
    return int(lab.ssh(HOST, f"cat /sys/block/$(basename $(realpath {place.device}))/md/degraded"))


def _is_clean(lab: Lab, case: Case, when: str) -> None:
    if differing := lab.differing():
        pytest.fail(f"{case.name}, {when}: {format_claims(differing)} differ", pytrace=False)


def _ends(lab: Lab, case: Case, sum: str) -> None:
    """Wait for the end of the copy, and look at the tier as its host sees it."""
    place = _place(lab, case)
    eventually(lambda: is_idle(lab, place), f"the copy onto {place.resource} ends", SYNC_SECONDS)
    eventually(lambda: _members(lab, place) == sorted(place.serials), f"{place.resource} has its members alone", 60)
    require_whole_tier(lab, place)
    _is_clean(lab, case, "afterwards")
    need(read_file(lab, place) == sum, f"{place.file} is not what was written")


def _members(lab: Lab, place: Place) -> list[str]:
    script = f"""for dev in $(mdadm --detail --export {place.device} | sed -n 's/^MD_DEVICE_.*_DEV=//p'); do
        lsblk -dno SERIAL $dev; done"""
    return sorted(lab.ssh(HOST, script).split())


def _place(lab: Lab, case: Case) -> Place:
    return next(place for place in places(lab.fleet) if place.name == case.name)

"""A tier's life from its first drive to its last: of every fleet in stacks/, of each level, and of a seed.

What is beside the tiers, network and roles, is left out: other checks have that. In each machine one more drive waits
for every tier that can grow.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any, get_args

import pytest

from rackwright.core.repository import Roles
from rackwright.fleet import load_fleet
from rackwright.schema import Drive, Fleet, Host, Identity, Size, Tier
from rackwright.schema.tier import MEMBERS, Level
from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.fleets import generate, write_yaml
from tests.support.lab import Lab, format_claims
from tests.support.log import ROOT, Log
from tests.support.removal import destroy_with_consent, destroy_without_consent
from tests.support.tier_life import SYNC_SECONDS, create_tiers
from tests.support.tiers import (
    DEVICE,
    SEED,
    Place,
    is_at_rest,
    is_degraded,
    is_idle,
    kib,
    places,
    read_file,
    require_whole_tier,
    restart_hosts,
)

Waiting = dict[str, str]
"""The serial of the drive that waits, by tier: ``gpu-01/hot``."""


def in_stacks() -> Iterator[Path]:
    """Yield the files of stacks/ that declare hosts with tiers."""
    for path in sorted((ROOT / "stacks").glob("*.*")):
        mark = {".yaml": "\nhosts:\n", ".py": "\ndef fleet() -> Fleet:\n"}.get(path.suffix)
        if mark and mark in (text := path.read_text()) and "tiers" in text:
            yield path


def of_each_level() -> Fleet:
    """Return one host with a tier of each level, of as few members as it takes."""
    drives, tiers = [Drive(serial="RW-BOOT", boot=True)], {}
    for number, level in enumerate(get_args(Level)):
        cap = {} if level == "raid0" else {"sync_speed_max": "150MiB"}
        tiers[level] = Tier(level=level, filesystem=("xfs", "ext4")[number % 2], mount=f"/srv/{level}", **cap)
        one = Drive(serial=f"RW-{level[4:]}", bus=("nvme", "sas")[number % 2], size=Size("1TB"), tier=level)
        drives += [one.model_copy(update={"serial": f"{one.serial}-{slot}"}) for slot in range(MEMBERS[level])]
    identity = Identity(serial="S-ALPHA")
    host = Host(address="192.0.2.1", identity=identity, os="debian-12", drives=tuple(drives), tiers=tiers)
    return Fleet(fleet="levels", hosts={"alpha": host})


def with_waiting(fleet: Fleet) -> tuple[Fleet, Waiting]:
    """Return the hosts of *fleet* that have tiers, with nothing but these, and with drives that wait."""
    hosts: dict[str, Host] = {}
    waiting: Waiting = {}
    for name, host in fleet.hosts.items():
        tiers = {tier: declared for tier, declared in host.tiers.items() if not declared.provided}
        more = []
        for tier, declared in tiers.items():
            if declared.level != "raid0":
                waiting[f"{name}/{tier}"] = f"MORE-{len(waiting)}"
                change = {"serial": waiting[f"{name}/{tier}"], "tier": None}
                more.append(host.members(tier)[0].model_copy(update=change))
        left_out = {"group": None, "network": None, "roles": {}}
        if tiers:
            hosts[name] = host.model_copy(update={**left_out, "tiers": tiers, "drives": (*host.drives, *more)})
    return Fleet(fleet=fleet.fleet, hosts=hosts), waiting


def _live(fleet: Fleet, log: Log) -> str:
    declared, waiting = with_waiting(fleet)
    directory = log.empty_directory()
    write_yaml(declared, directory / "fleet.yaml")
    with Lab(directory / "project", directory / "fleet.yaml", log) as lab:
        lab.start()
        sums = create_tiers(lab)
        restart_hosts(lab, [*sums])
        _are_kept(lab, sums)
        _mended(lab, sums)
        _grown(lab, sums, waiting)
        destroy_without_consent(lab, places(lab.fleet))
        _are_kept(lab, sums)
        destroy_with_consent(lab, places(lab.fleet))
    levels = ", ".join(sorted({str(place.tier.level) for place in sums}))
    return f"{len(sums)} tiers ({levels}) from their first drive to their last, {len(waiting)} of them grown"


def _are_kept(lab: Lab, sums: dict[Place, str]) -> None:
    for place, sum in sums.items():
        need(read_file(lab, place) == sum, f"{place.file} on {place.host} is not what was written")


def _mended(lab: Lab, sums: dict[Place, str]) -> None:
    """Pull a drive of each tier that can spare one, and unmount the others; put it back, and `up` mends all of them."""
    lab.log("a drive of each tier is pulled, or it is unmounted")
    for place in sums:
        if place.redundant:
            faults.pull(lab.twin, place.host, place.serials[-1])
            eventually(partial(is_degraded, lab, place), f"{place.resource} misses {place.serials[-1]}")
        else:
            lab.ssh(place.host, f"umount {quote(place.mount)}")
    _are_previewed(lab, [*sums])
    for place in filter(lambda place: place.redundant, sums):
        faults.insert(lab.twin, place.host, place.serials[-1])
        find = f"{DEVICE}; device {quote(place.serials[-1])}"
        eventually(partial(lab.ssh, place.host, find), f"{place.serials[-1]} is back")
    lab.log("up, all drives back")
    lab.up()
    for place in sums:
        eventually(partial(_is_whole_again, lab, place), f"{place.resource} is whole again", SYNC_SECONDS)
        require_whole_tier(lab, place)
    need(not (differing := lab.differing()), f"{format_claims(differing)} differ after mending")
    _are_kept(lab, sums)


def _are_previewed(lab: Lab, everywhere: list[Place]) -> None:
    differing, resources = lab.differing(), {place.resource for place in everywhere}
    need({resource for resource, _ in differing} == resources, f"{format_claims(differing)} differ, wanted {resources}")
    done = lab.rackwright("preview", lab.stack, status=1)
    for place in everywhere:
        for word in (place.resource, place.serials[-1] if place.redundant else place.mount):
            need(word in done.stdout + done.stderr, f"the preview does not name {word}")


def _is_whole_again(lab: Lab, place: Place) -> bool:
    return is_idle(lab, place) and not is_degraded(lab, place)


def _grown(lab: Lab, sums: dict[Place, str], waiting: Waiting) -> None:
    """Give each tier the drive that waits for it; of a mirror that is one copy more, of others more room."""
    growing = [place for place in sums if place.resource in waiting]
    before = {place: kib(lab, place) for place in growing}

    def declare(content: Any) -> None:
        for place in growing:
            drives = {drive["serial"]: drive for drive in content["hosts"][place.host]["drives"]}
            drives[waiting[place.resource]]["tier"] = place.name

    lab.edit(declare)
    lab.log(f"up, with a drive more for {', '.join(place.resource for place in growing)}")
    lab.up()
    for place in growing:
        eventually(partial(is_at_rest, lab, place), f"the reshape of {place.resource} ends", SYNC_SECONDS)
        if place.tier.level != "raid1":
            eventually(partial(_has_more, lab, place, before[place]), f"the filesystem of {place.resource} has grown")
    for place in places(lab.fleet):
        require_whole_tier(lab, place)
    need(not (differing := lab.differing()), f"{format_claims(differing)} differ after growing")
    _are_kept(lab, sums)


def _has_more(lab: Lab, place: Place, before: int) -> bool:
    return kib(lab, place) > before * 1.1


@line("storage-life", "harness")
@pytest.mark.parametrize("path", tuple(in_stacks()), ids=lambda path: path.name)
def test_tiers_of_an_example_fleet_live_from_creation_to_removal(path: Path, log: Log) -> str:
    return _live(load_fleet(path, Roles(ROOT)), log)


@line("storage-life", "harness", part="levels")
def test_a_tier_of_each_level_lives_from_creation_to_removal(log: Log) -> str:
    return _live(of_each_level(), log)


@line("storage-life", "harness", part="seed")
def test_tiers_of_a_random_fleet_live_from_creation_to_removal(log: Log) -> str:
    """`make soak` has it repeated, with seeds of its own."""
    log(f"the fleet of seed {SEED} (ACCEPT_SEED={SEED} takes it again)")
    return _live(generate(SEED), log)

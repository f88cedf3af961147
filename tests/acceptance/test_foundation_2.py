"""Changes behind the declaration's back: each is found under exactly its claim and mended; no data is lost."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.tiers import (
    DEVICE,
    RACK,
    SEED,
    Place,
    is_degraded,
    is_idle,
    places,
    read_file,
    require_whole_tier,
    restart_hosts,
    unit,
    write_file,
    write_random_fleet,
)


@dataclass(frozen=True)
class Drift:
    """A change by hand: plain commands, and the claim that no longer holds."""

    name: str
    script: Callable[[Place], str]
    claim: Callable[[Lab, Place], str]
    fits: Callable[[Place], bool] = lambda place: True


def _mount(lab: Lab, place: Place) -> str:
    return f"mount:{place.mount}"


def _strange_option(place: Place) -> str:
    return next(option for option in ("nosuid", "nodev", "noexec") if option not in place.tier.options)


DRIFTS = (
    Drift("mounted read-only", lambda place: f"mount -o remount,ro {quote(place.mount)}", _mount),
    Drift(
        "mounted with another option",
        lambda place: f"mount -o remount,{_strange_option(place)} {quote(place.mount)}",
        _mount,
    ),
    Drift(
        "mount unit masked",
        lambda place: (
            f"""
            unit=/etc/systemd/system/$(systemd-escape --path --suffix=mount {quote(place.mount)})
            rm "$unit"; ln -s /dev/null "$unit"; systemctl daemon-reload"""
        ),
        lambda lab, place: f"unit:{unit(lab, place)}",
    ),
    Drift("unmounted", lambda place: f"umount {quote(place.mount)}", _mount),
    Drift(
        "bitmap removed",
        lambda place: f"mdadm --grow {place.device} --bitmap=none",
        lambda lab, place: place.md,
        lambda place: place.tier.has_bitmap,
    ),
    Drift(
        "mdadm.conf.d file edited",
        lambda place: f"echo '# by hand' >> {place.conf}",
        lambda lab, place: f"file:{place.conf}",
    ),
)


def suits(found: list[Place]) -> bool:
    """Whether every change can be made to some tier of a fleet."""
    return any(place.tier.has_bitmap for place in found)


@line("foundation", 2, part="rack")
def test_drift_on_the_example_rack_is_found_and_mended(log: Log) -> str:
    return _drift(RACK, log)


@line("foundation", 2, part="seed")
def test_drift_on_a_random_fleet_is_found_and_mended(log: Log) -> str:
    return _drift(write_random_fleet(log.directory, log, suits), log)


def _drift(fleet: Path, log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet, log) as lab:
        lab.start()
        log("up")
        lab.up()
        everywhere = places(lab.fleet)
        sums = {}
        for place in everywhere:
            require_whole_tier(lab, place)
            sums[place] = write_file(lab, place)
            eventually(partial(is_idle, lab, place), f"{place.resource} is in sync")
        need(not lab.differing(), "something differs right after up")

        found = [drift.name for drift, place in _pairs(everywhere) if _drifts(lab, drift, place)]
        found += [_pull(lab, place) for place in _some([place for place in everywhere if place.redundant], 1)]
        restart_hosts(lab, everywhere)
        for place in everywhere:
            need(read_file(lab, place) == sums[place], f"{place.file} on {place.host} is not what was written")
        return f"{len(found)} changes found under their claims and mended, {len(sums)} × 100 MB kept"


def _some(among: list[Place], count: int) -> list[Place]:
    return random.Random(SEED).sample(among, min(count, len(among)))


def _pairs(everywhere: list[Place]) -> Iterator[tuple[Drift, Place]]:
    """Each change with one tier it fits, every tier in turn."""
    turn = itertools.cycle(_some(everywhere, len(everywhere)))
    for drift in DRIFTS:
        yield drift, next(place for place in turn if drift.fits(place))


def _only(lab: Lab, place: Place, claim: str, what: str) -> None:
    differing = lab.differing()
    need(
        differing == {(place.resource, claim)},
        f"{what}: {format_claims(differing)} differ, wanted {place.resource} {claim}",
    )


def _drifts(lab: Lab, drift: Drift, place: Place) -> bool:
    lab.log(f"{place.resource}: {drift.name}")
    claim = drift.claim(lab, place)
    lab.ssh(place.host, drift.script(place))
    _only(lab, place, claim, drift.name)
    lab.up()
    require_whole_tier(lab, place)
    return True


def _pull(lab: Lab, place: Place) -> str:
    """Pull a drive while it is written to: left to a person; put it back, and up takes it back."""
    serial = random.Random(SEED).choice(place.serials)
    lab.log(f"{place.resource}: drive {serial} pulled")
    faults.pull(lab.twin, place.host, serial)
    eventually(lambda: is_degraded(lab, place), f"{place.resource} misses {serial}")
    _only(lab, place, place.md, "drive pulled")
    need(_unknown(lab, place, f"drive:{serial}"), f"drive {serial} is pulled, and its properties are not unknown")
    done = lab.up(status=1)
    text = done.stdout + done.stderr
    need("by hand" in text and place.md in text, f"up does not say what a person has to do about {place.md}")
    need(is_degraded(lab, place), f"{place.resource} is whole without {serial}")

    lab.log(f"{place.resource}: drive {serial} put back")
    faults.insert(lab.twin, place.host, serial)
    eventually(lambda: lab.ssh(place.host, f"{DEVICE}; device {quote(serial)}"), f"{serial} is back")
    lab.up()
    eventually(lambda: is_idle(lab, place) and not is_degraded(lab, place), f"{place.resource} is whole again", 600)
    require_whole_tier(lab, place)
    need(not lab.differing(), "something differs after the drive is back")
    return "drive pulled"


def _unknown(lab: Lab, place: Place, claim: str) -> bool:
    resources = {resource["name"]: resource["differences"] for resource in lab.audit()["resources"]}
    found = [difference["unknown"] for difference in resources[place.resource] if difference["claim"] == claim]
    return bool(found) and all(found)

"""Tiers are destroyed with consent only, leave nothing behind, and are never created again over lost data."""

import hashlib
import re
from pathlib import Path
from shlex import quote

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.images import sums
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.removal import destroy_with_consent, destroy_without_consent
from tests.support.tiers import (
    DEVICE,
    RACK,
    Place,
    is_idle,
    places,
    read_file,
    require_whole_tier,
    write_file,
    write_random_fleet,
)

SUPERBLOCK = "bs=4096 skip=1 count=1 status=none"
"""Where version 1.2 keeps it. Source: md(4)."""


@line("foundation", 5, part="rack")
def test_tiers_of_the_example_rack_are_destroyed_with_consent_only(log: Log) -> str:
    return _destroy(RACK, log)


@line("foundation", 5, part="seed")
def test_tiers_of_a_random_fleet_are_destroyed_with_consent_only(log: Log) -> str:
    return _destroy(write_random_fleet(log.directory, log, lambda found: any(place.redundant for place in found)), log)


def _destroy(fleet: Path, log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet, log) as lab:
        lab.start()
        log("up")
        lab.up()
        everywhere = places(lab.fleet)
        data = {place: write_file(lab, place) for place in everywhere}
        for place in everywhere:
            eventually(lambda place=place: is_idle(lab, place), f"{place.resource} is in sync")  # type: ignore[misc]

        destroy_without_consent(lab, everywhere)
        redundant = next(place for place in everywhere if place.redundant)
        _stopped(lab, everywhere[-1])
        _zeroed(lab, redundant, redundant.serials[:1], "one superblock")
        _zeroed(lab, redundant, redundant.serials, "all superblocks")
        for place, sum in data.items():
            need(read_file(lab, place) == sum, f"{place.file} on {place.host} is not what was written")
        destroy_with_consent(lab, everywhere)
        return f"{len(everywhere)} tiers kept without consent and through lost superblocks, and erased with it"


def _stopped(lab: Lab, place: Place) -> None:
    lab.log(f"{place.resource}: stopped")
    made = _made(lab, place)
    lab.ssh(place.host, f"umount {quote(place.mount)}; mdadm --stop {place.device}")
    differing = {resource for resource, _ in lab.differing()}
    need(differing == {place.resource}, f"{differing} differ, wanted {place.resource}")
    _never_made(lab.rackwright("preview", lab.stack, status=1).stdout)
    _never_made(lab.up().stdout)
    require_whole_tier(lab, place)
    need(_made(lab, place) == made, f"{place.resource} was made anew")


def _zeroed(lab: Lab, place: Place, serials: tuple[str, ...], what: str) -> None:
    """Zero superblocks of a stopped array: refused, and nothing is written; put back, they are assembled."""
    lab.log(f"{place.resource}: {what} zeroed")
    made = _made(lab, place)
    lab.ssh(place.host, f"umount {quote(place.mount)}; mdadm --stop {place.device}; mkdir -p /root/kept")
    for serial in serials:
        find = f"{DEVICE}; dev=$(device {quote(serial)}); kept=/root/kept/{hashlib.md5(serial.encode()).hexdigest()}"
        lab.ssh(place.host, f"{find}\ndd if=$dev of=$kept {SUPERBLOCK}; mdadm --zero-superblock $dev")
    before = sums(lab, [place])
    for verb in ("preview", "up"):
        done = lab.rackwright(verb, lab.stack, status=2)
        text = done.stdout + done.stderr
        need(
            place.resource in text and re.search("over (lost )?data", text),
            f"{verb} does not say why {place.resource} is not created again",
        )
        _never_made(done.stdout)
        need(sums(lab, [place]) == before, f"{verb} wrote to a drive of {place.resource}")
    for serial in serials:
        find = f"{DEVICE}; dev=$(device {quote(serial)}); kept=/root/kept/{hashlib.md5(serial.encode()).hexdigest()}"
        lab.ssh(place.host, f"{find}\ndd if=$kept of=$dev bs=4096 seek=1 count=1 conv=fsync status=none")
    lab.ssh(place.host, "udevadm settle")
    lab.up()
    require_whole_tier(lab, place)
    need(_made(lab, place) == made, f"{place.resource} was made anew")
    need(not lab.differing(), f"something differs after {what} came back")


def _made(lab: Lab, place: Place) -> str:
    return lab.ssh(place.host, f"mdadm --detail {place.device} | grep -E 'Creation Time|UUID'")


def _never_made(text: str) -> None:
    made = re.search(r"step \d+/\d+: make .*", text)
    need(not made, f"something would be made anew: {made and made[0]}")

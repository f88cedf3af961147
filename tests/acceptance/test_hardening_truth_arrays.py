"""Changes to running arrays by hand: they are found, the remedy fits, `up` mends them, and no data is lost."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.tiers import DEVICE, Place, is_degraded, is_idle, places, read_file, write_file

HOST, SIZE = "alpha", "256MB"
SYNC_SECONDS, TRIES = 600, 5
TIERS = {"mirror": ("raid1", "ext4", 2), "stripes": ("raid0", "xfs", 2)}
DESTROYS = re.compile(r"wipe:|mkfs|destroy|zero-superblock|by hand|taken out|take it out|remove")


def fleet() -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    for name, (_, _, count) in TIERS.items():
        own = {"bus": "nvme", "size": SIZE, "tier": name}
        drives += [{"serial": f"RW-{name.upper()}-{number}", **own} for number in range(count)]
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:20", "addresses": ["10.32.0.20/24"]}],
        "tiers": {
            name: {"level": level, "filesystem": filesystem, "mount": f"/srv/{name}"}
            for name, (level, filesystem, _) in TIERS.items()
        },
    }
    return yaml.safe_dump({"fleet": "seeded", "hosts": {HOST: host}}, sort_keys=False)


@pytest.fixture(scope="module")
def array_host() -> Iterator[Lab]:
    """The host with the tiers, started once for all lines of this file."""
    log = Log("hardening.truth[arrays]")
    with Lab(log.empty_directory() / "project", fleet(), log) as lab:
        lab.start()
        lab.up()
        for place in places(lab.fleet):
            eventually(lambda: is_idle(lab, place), f"the first sync of {place.resource} ends", SYNC_SECONDS)  # noqa: B023
        yield lab


@pytest.fixture
def lab(array_host: Lab, log: Log) -> Lab:
    """The shared host, on which nothing differs; its commands write to the log of the line that runs."""
    array_host.log = log
    need(not (differing := array_host.audit_differences()), f"{format_claims(differing)} differ at the beginning")
    return array_host


@line("hardening", "truth", part="missed-member")
def test_an_erased_superblock_is_found_and_restored(lab: Lab, log: Log) -> str:
    """Erase the superblock of a running member of each tier, and let `up` bring it back."""
    done = []
    for place in places(lab.fleet):
        sum, serial = write_file(lab, place), place.serials[0]
        log(f"the superblock of {serial} is erased while {place.resource} runs")
        # past the page cache: what the kernel writes itself must not come back with a page that was read before
        erase = "dd if=/dev/zero of=$(device {serial}) bs=4096 seek=1 count=1 oflag=direct conv=fsync status=none"
        differences: list[dict[str, Any]] = []
        for _ in range(TRIES):  # md writes it again by itself when the filesystem writes something
            lab.ssh(HOST, f"{DEVICE}\n{erase.format(serial=serial)}")
            if differences := _differences(lab, place):
                break
        need(len(differences) == 1, f"of {place.md} {differences} differ")
        [difference] = differences
        need(difference["property"] == "superblocks_lost", f"{difference} differs")
        need(serial in str(difference["actual"]), f"{difference} does not name {serial}")
        lab.up()
        need(_named(lab, serial), f"{serial} has no superblock after up")
        need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
        need(read_file(lab, place) == sum, f"{place.file} is not what was written")
        done.append(f"{place.tier.level}")
    log("reboot")
    lab.reboot(HOST)
    for place in places(lab.fleet):
        need(not is_degraded(lab, place), f"{place.resource} misses a member after the restart")
    need(not (differing := lab.differing()), f"{format_claims(differing)} differ after the restart")
    return f"erased on a member of {' and '.join(done)}: named, written again by up, and whole after a restart"


@line("hardening", "truth", part="mended-array")
def test_an_array_that_was_made_smaller_is_enlarged_again(lab: Lab, log: Log) -> str:
    """Cut the size that md shows, and the size that it uses of each member, both beyond the end of the data."""
    place = next(place for place in places(lab.fleet) if place.redundant)
    sum, whole = write_file(lab, place), _bytes(lab, place)
    kib = (whole >> 10) - (16 << 10)
    lab.ssh(HOST, f"umount {place.mount}; e2fsck -fp {place.device}; resize2fs {place.device} {kib - (16 << 10)}K")
    lab.ssh(HOST, f"mount {place.device} {place.mount}")
    for option, name in (("array-size", "array_size"), ("size", "member_kib")):
        log(f"mdadm --grow --{option}={kib}")
        lab.ssh(HOST, f"mdadm --grow {place.device} --{option}={kib}")
        need(_bytes(lab, place) < whole, f"{place.resource} is as large as before")
        differences = {item["property"]: item for item in _differences(lab, place)}
        need(name in differences, f"of {place.md} {', '.join(differences)} differ, not {name}")
        _harmless(differences[name]["remedy"])
        lab.up()
        need(_bytes(lab, place) == whole, f"{place.resource} has {_bytes(lab, place)} bytes, and had {whole}")
        eventually(lambda: is_idle(lab, place), "md is at rest", SYNC_SECONDS)
        need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
        need(read_file(lab, place) == sum, f"{place.file} is not what was written")
    return f"cut by 16 MiB with --array-size and with --size: {whole >> 20} MiB again by up, sums equal"


@line("hardening", "truth", part="remedies")
def test_no_remedy_destroys_a_running_array(lab: Lab, log: Log) -> str:
    """Take the bitmap away, cap the resync, and declare another level: no advice destroys what is alive."""
    mirror, stripes = sorted(places(lab.fleet), key=lambda place: place.name)
    sums = {place: write_file(lab, place) for place in (mirror, stripes)}
    lab.ssh(HOST, f"mdadm --grow {mirror.device} --bitmap=none")
    lab.ssh(HOST, f"echo 1234 > /sys/block/$(basename $(realpath {mirror.device}))/md/sync_speed_max")
    advice = {item["property"]: item["remedy"] for item in _differences(lab, mirror)}
    need("bitmap" in advice, f"{', '.join(advice)} differ, and not the bitmap")
    for name, text in advice.items():
        need("run up" in text, f"{name}: {text}")
        _harmless(text)

    log("another level is declared")
    _declare(lab, stripes, "raid1")
    done = lab.rackwright("preview", lab.stack, status=2)
    text = done.stdout + done.stderr
    refusal = text.partition("md level: ")[2].partition("\n1 ")[0]  # to the line with the counts
    need(
        "Declare the level that the array has" in refusal,
        "the preview does not advise to declare the level that is there",
    )
    _harmless(refusal)
    _declare(lab, stripes, "raid0")

    log("up")
    lab.up()
    need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
    for place, sum in sums.items():
        need(read_file(lab, place) == sum, f"{place.file} is not what was written")
    return f"bitmap, speed and level: {len(advice) + 1} texts advise to run up or to declare what is there; sums equal"


def _differences(lab: Lab, place: Place) -> list[dict[str, Any]]:
    """Return what the audit says of the array of *place*."""
    resources = lab.audit()["resources"]
    return [item for found in resources for item in found["differences"] if item["claim"] == place.md]


def _harmless(text: str) -> None:
    found = DESTROYS.search(text)
    need(found is None, f"advice speaks of {found and found[0]}: {text}")


def _declare(lab: Lab, place: Place, level: str) -> None:
    lab.edit(lambda content: content["hosts"][HOST]["tiers"][place.name].update(level=level))


def _named(lab: Lab, serial: str) -> str:
    """Return the array that the drive's superblock names, empty where it has none."""
    script = f"{DEVICE}\nmdadm --examine --export $(device {serial}) 2>/dev/null | grep ^MD_UUID= || true"
    return lab.ssh(HOST, script)


def _bytes(lab: Lab, place: Place) -> int:
    return int(lab.ssh(HOST, f"blockdev --getsize64 {place.device}"))

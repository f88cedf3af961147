"""A scrub finds mismatches, and a waiting drive takes the place of a failed one without an operator."""

import json

import yaml

from rackwright.twin import faults
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.replacement import swap
from tests.support.tiers import DEVICE, Place, is_idle, places, read_file, write_file

HOST, TIER = "alpha", "warm"
MEMBERS = tuple(f"RW-{number}" for number in range(3))
SPARE, NEW = "RW-SPARE", "RW-NEW"
CLAIM = f"md:{HOST}:{TIER}"
SCRUB = f"scrub-{TIER}.service"
SCRUB_KIB = 8192
"""In a second: so little that the scrub is seen at work."""
SPOILT_MIB = 200
"""Where on a member of 256 MB: no file lies there yet."""
SYNC_SECONDS = 600


def fleet() -> str:
    common = {"bus": "sas", "size": "256MB"}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": [
            {"serial": "RW-BOOT", "boot": True},
            *({"serial": serial, **common, "tier": TIER} for serial in MEMBERS),
            {"serial": SPARE, **common, "tier": TIER, "spare": True},
            {"serial": NEW, **common},
        ],
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:01", "addresses": ["10.32.0.1/24"]}],
        "tiers": {
            TIER: {
                "level": "raid5",
                "filesystem": "ext4",
                "mount": f"/srv/{TIER}",
                "scrub": {"every": "week", "speed_max": f"{SCRUB_KIB // 1024}MiB"},
            }
        },
    }
    return yaml.safe_dump({"fleet": "life", "hosts": {HOST: host}}, sort_keys=False)


@line("storage-life", 1, part="spare")
def test_a_spare_takes_the_place_of_a_failed_drive(log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet(), log) as lab:
        lab.start()
        log("up")
        lab.up()
        [place] = places(lab.fleet)
        eventually(lambda: is_idle(lab, place), f"the first sync of {place.resource} ends", SYNC_SECONDS)
        _are(lab, place, MEMBERS, SPARE)
        _is_clean(lab, "after up")
        mismatches = _scrubbed(lab, place)
        sum = write_file(lab, place)

        lost = MEMBERS[1]
        log(f"{lost} dies")
        faults.pull(lab.twin, HOST, lost)
        lab.ssh(HOST, f"echo noticed > {place.mount}/noticed; sync")
        instead = tuple(SPARE if serial == lost else serial for serial in MEMBERS)
        eventually(lambda: _seats(lab, place) == (sorted(instead), []), f"{SPARE} has the place of {lost}", 120)
        eventually(lambda: is_idle(lab, place), f"{SPARE} is filled", SYNC_SECONDS)
        need(read_file(lab, place) == sum, f"{place.file} is not what was written")
        differing = lab.differing()
        need(differing == {(place.resource, CLAIM)}, f"{format_claims(differing)} differ, wanted {CLAIM} alone")
        _previews(lab, f"{CLAIM}.members", f"{SPARE}, declared as a spare, is in the place of {lost}")

        swap(lab, lost, NEW)
        log(f"up with {NEW}, which waits from now on")
        lab.up()
        _are(lab, place, instead, NEW)
        need(is_idle(lab, place), "md copies, and nothing was to be copied")
        _is_clean(lab, "afterwards")
        need(read_file(lab, place) == sum, f"{place.file} is not what was written")
    return f"a scrub found {mismatches} sectors that did not fit; {SPARE} took the place of {lost}, then {NEW} waited"


def _scrubbed(lab: Lab, place: Place) -> int:
    """Scrub the tier by its own unit, whole and spoilt, and mend it as the audit says; return what it counted."""
    lab.log("a scrub")
    lab.ssh(HOST, f"systemctl start {SCRUB}")
    _is_clean(lab, "after a scrub")
    lab.log(f"a scrub, with 64 KiB of {MEMBERS[0]} spoilt")
    spoil = (
        f"dd if=/dev/urandom of=$(device {MEMBERS[0]}) bs=64k count=1 seek={SPOILT_MIB * 16} oflag=direct conv=notrunc"
    )
    lab.ssh(HOST, f"{DEVICE}\n{spoil}\nsystemctl start --no-block {SCRUB}")
    sysfs = f"/sys/block/$(basename $(realpath {place.device}))"
    state = f"systemctl is-active {SCRUB} || true; cat {sysfs}/md/sync_action {sysfs}/md/sync_speed_max"
    running = ["activating", "check", str(SCRUB_KIB), "(local)"]
    eventually(lambda: lab.ssh(HOST, state).split() == running, "the scrub runs at its speed", 60)
    eventually(lambda: lab.ssh(HOST, state).split()[:2] == ["inactive", "idle"], "the scrub ends", SYNC_SECONDS)
    need(lab.ssh(HOST, state).split()[-1] == "(system)", "the scrub's limit has stayed")
    differing = lab.differing()
    need(differing == {(place.resource, CLAIM)}, f"{format_claims(differing)} differ, wanted {CLAIM} alone")
    _previews(lab, f"{CLAIM}.mismatch_count")
    count = int(lab.ssh(HOST, f"cat {sysfs}/md/mismatch_cnt"))
    lab.log("repair and check")
    for action in ("repair", "check"):
        lab.ssh(HOST, f"echo {action} > {sysfs}/md/sync_action")
        eventually(lambda: is_idle(lab, place), f"{action} ends", SYNC_SECONDS)
    _is_clean(lab, "after a repair")
    return count


def _seats(lab: Lab, place: Place) -> tuple[list[str], list[str]]:
    """Return the serials of the drives that have places in the array, and of those that wait in it."""
    script = f"lsblk --json --nodeps -o NAME,SERIAL; echo; mdadm --detail --export {place.device}"
    listed, _, exported = lab.ssh(HOST, script).partition("\n\n")
    serials = {f"/dev/{each['name']}": each["serial"] for each in json.loads(listed)["blockdevices"]}
    lines = dict(line.split("=", 1) for line in exported.splitlines())
    seats: dict[bool, list[str]] = {True: [], False: []}
    for name, role in lines.items():
        if name.startswith("MD_DEVICE_") and name.endswith("_ROLE"):
            seats[role != "spare"].append(serials[lines[name.replace("_ROLE", "_DEV")]])
    return sorted(seats[True]), sorted(seats[False])


def _previews(lab: Lab, *words: str) -> None:
    done = lab.rackwright("preview", lab.stack)
    for word in words:
        need(word in done.stdout + done.stderr, f"the preview does not say: {word}")


def _are(lab: Lab, place: Place, members: tuple[str, ...], spare: str) -> None:
    found = _seats(lab, place)
    need(found == (sorted(members), [spare]), f"{place.resource} has {found[0]}, and {found[1]} wait")


def _is_clean(lab: Lab, when: str) -> None:
    need(not (differing := lab.differing()), f"{when} {format_claims(differing)} differ")

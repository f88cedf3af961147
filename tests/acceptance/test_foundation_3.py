"""Drives with data are refused by name, and stay byte for byte until a consent names their content."""

import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

from tests.support.acceptance import line
from tests.support.consents import OPTION, WIPE
from tests.support.diagnostics import sentences
from tests.support.expect import eventually, need
from tests.support.images import Drive, sums
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.tiers import DEVICE, RACK, Place, places, require_whole_tier, write_random_fleet

COUNTED = re.compile(r"\d+ sectors written since \w+$")
"""How the content ends in an option."""
LAST_RESORT = "systemctl list-units --no-legend --state=active 'mdadm-last-resort@*.timer'"
"""What waits for the missing members of an array, to start it without them."""


@dataclass(frozen=True)
class Content:
    """Something that a drive may carry, and the word that a refusal has for it."""

    word: str
    script: str
    """Puts it on "$dev"; run again, it makes another of the same sort."""


def _array(metadata: str) -> str:
    """Return how one drive comes to be the half of a mirror that another machine made."""
    return f"""
        mdadm --create /dev/md/strange --run --quiet --level=1 --raid-devices=2 --metadata={metadata} \\
            --homehost=elsewhere "$dev" missing
        mkfs.ext4 -qF /dev/md/strange
        mdadm --stop --quiet /dev/md/strange"""


CONTENTS = (
    Content("ext4", 'mkfs.ext4 -qF "$dev"'),
    Content("gpt", 'parted -s "$dev" mklabel gpt mkpart one 1MiB 100%'),
    Content("LVM2_member", 'pvcreate -qqff -y "$dev"'),
    Content(
        "crypto_LUKS", 'echo secret | cryptsetup luksFormat -q --pbkdf-force-iterations 1000 --pbkdf pbkdf2 "$dev"'
    ),
    Content("swap", 'mkswap "$dev" > /dev/null'),
    Content("linux_raid_member", _array("1.2")),
    Content("linux_raid_member", _array("0.90")),
    Content("linux_raid_member", _array("1.0")),
    Content("first MiB", 'head -c 3000000 /dev/urandom > "$dev"'),
)


@line("foundation", 3, part="rack")
def test_data_on_the_example_rack_stays_until_consent_names_it(log: Log) -> str:
    return _carried(RACK, log)


@line("foundation", 3, part="seed")
def test_data_on_a_random_fleet_stays_until_consent_names_it(log: Log) -> str:
    return _carried(write_random_fleet(log.directory, log, lambda found: _drives(found, True) >= len(CONTENTS)), log)


def _drives(found: Iterable[Place], spared: bool) -> int:
    """How many drives may carry something, where one of each tier is left blank."""
    return sum(len(place.serials) - spared for place in found)


def _carried(fleet: Path, log: Log) -> str:
    with Lab(log.empty_directory() / "project", fleet, log) as lab:
        lab.start()
        everywhere = places(lab.fleet)
        content = dict(zip(_interleaved(everywhere), CONTENTS, strict=False))
        need(len(content) == len(CONTENTS), "the fleet has too few drives for all contents")

        log("drives carry something, and their hosts start anew")
        _fill(lab, content)
        _settle(lab, everywhere)
        first = _refused(lab, everywhere, content)

        log("consent, and then something else is written")
        _consent(lab, first)
        _fill(lab, content)
        _settle(lab, everywhere)
        second = _refused(lab, everywhere, content)
        need(not set(first.items()) & set(second.items()), "another content has the same line of consent")

        log("consent for all but one of them")
        last = next(reversed(second))
        _consent(lab, {drive: line for drive, line in second.items() if drive != last})
        before = sums(lab, everywhere)
        done = _up(lab, {drive: line for drive, line in second.items() if drive != last}, 2)
        _says(done.stdout + done.stderr, {last: content[last]}, but=second.keys() - {last})
        after = sums(lab, everywhere)
        theirs = next(place for place in everywhere if last[0] == place.host and last[1] in place.serials)
        need(
            all(before[theirs.host, serial] == after[theirs.host, serial] for serial in theirs.serials),
            f"a drive of {theirs.resource} was written although {last[1]} is refused",
        )

        log("consent for the last one")
        _consent(lab, second)
        _up(lab, second, 0)
        for place in everywhere:
            require_whole_tier(lab, place)
        need(not lab.differing(), "something differs after up")
        return f"{len(content)} contents refused twice, kept byte for byte, and let go by their own lines only"


def _interleaved(everywhere: list[Place]) -> Iterator[Drive]:
    """Yield drives of all tiers in turn, but the last of each, which stays blank."""
    for number in range(max(len(place.serials) for place in everywhere) - 1):
        yield from ((place.host, place.serials[number]) for place in everywhere if number < len(place.serials) - 1)


def _fill(lab: Lab, content: dict[Drive, Content]) -> None:
    for (host, serial), carried in content.items():
        stop = "mdadm --stop --scan 2>/dev/null || true"
        find = f"{DEVICE}; dev=$(device {quote(serial)}); [ -b $dev ]"
        lab.ssh(host, f'{stop}\n{find}\nwipefs -qaf "$dev"\n{carried.script}\nsync')


def _settle(lab: Lab, everywhere: list[Place]) -> None:
    """Restart the hosts: what udev makes of the drives at boot, it has made before anything is compared."""
    for host in {place.host: None for place in everywhere}:
        lab.reboot(host)
        eventually(partial(_no_timer, lab, host), f"{host} has no timer of md's left")
        lab.ssh(host, "udevadm settle; [ ! -e /proc/mdstat ] || cat /proc/mdstat; lsblk -o NAME,SERIAL,FSTYPE; sync")


def _no_timer(lab: Lab, host: str) -> bool:
    return not lab.ssh(host, LAST_RESORT)


def _refused(lab: Lab, everywhere: list[Place], content: dict[Drive, Content]) -> dict[Drive, str]:
    """Preview and up refuse every content and change nothing; return the lines of consent they print."""
    before = sums(lab, everywhere)
    lines: dict[Drive, str] = {}
    for verb in ("preview", "up"):
        lab.log(f"{verb} refuses")
        done = lab.rackwright(verb, lab.stack, status=2)
        lines = _says(done.stdout + done.stderr, content)
        after = sums(lab, everywhere)
        changed = [" ".join(drive) for drive, sum in before.items() if after[drive] != sum]
        need(not changed, f"{verb} refused, and yet these drives are not as before: {', '.join(changed)}")
    return lines


def _says(text: str, content: dict[Drive, Content], but: Iterable[Drive] = ()) -> dict[Drive, str]:
    """Return the lines of consent in *text*: one for each of *content*, and none for *but*."""
    text = sentences(text)
    lines = {(host, serial): line for host, serial, line in (*WIPE.findall(text), *OPTION.findall(text))}
    for (host, serial), carried in content.items():
        line = lines.get((host, serial), "nothing")
        need(carried.word in line, f"{serial} carries {carried.word}, and the refusal says {line}")
    need(not lines.keys() & set(but), f"refused in spite of consent: {lines.keys() & set(but)}")
    return lines


def _up(lab: Lab, lines: dict[Drive, str], status: int) -> subprocess.CompletedProcess[str]:
    """Run up with the consents of *lines* that no fleet may hold."""
    options = [f"--consent={serial}={line}" for (_, serial), line in lines.items() if COUNTED.search(line)]
    return lab.rackwright("up", lab.stack, *options, status=status)


def _consent(lab: Lab, lines: dict[Drive, str]) -> None:
    """Write the consents of *lines* into the fleet; those that it may not hold change nothing there."""

    def paste(fleet: Any) -> None:
        for host in fleet["hosts"].values():
            host.pop("wipe", None)
        for (host, serial), consent in lines.items():
            fleet["hosts"][host].setdefault("wipe", {})[serial] = consent

    lab.edit(paste)

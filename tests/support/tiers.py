"""The tiers of a fleet as mdadm, findmnt, systemctl and blkid on the host show them, independent of the probe."""

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from rackwright.schema.fleet import Fleet
from rackwright.schema.tier import Tier
from rackwright.schema.twin import twin_of
from tests.support.expect import need
from tests.support.fleets import generate, write_yaml
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

RACK = ROOT / "stacks" / "rack.yaml"
SEED = int(os.environ.get("ACCEPT_SEED") or random.SystemRandom().randrange(2**32))
"""Seed of the random fleet, and of the choice of tiers and actions."""
MEGABYTES = 100
DEVICE = """
device() {
    for try in 1 2 3 4 5 6 7 8 9 10; do
        found=$(lsblk -dnpo NAME,SERIAL | awk -v serial="$1" '$2 == serial {print $1}')
        [ -z "$found" ] || break
        udevadm settle; sleep 0.3
    done
    echo "$found"
}"""
"""Shell function that prints the path of the drive with a serial. It retries: udev drops serials while it probes."""


@dataclass(frozen=True)
class Place:
    """One tier of one host."""

    host: str
    name: str
    tier: Tier
    serials: tuple[str, ...]

    @property
    def resource(self) -> str:
        return f"{self.host}/{self.name}"

    @property
    def md(self) -> str:
        """Name of the array in its claim and in its superblocks."""
        return f"md:{self.host}:{self.name}"

    @property
    def device(self) -> str:
        return f"/dev/md/{self.name}"

    @property
    def mount(self) -> str:
        return self.tier.mount

    @property
    def conf(self) -> str:
        return f"/etc/mdadm/mdadm.conf.d/{self.name}.conf"

    @property
    def rule(self) -> str:
        return f"/etc/udev/rules.d/62-tier-{self.name}.rules"

    @property
    def redundant(self) -> bool:
        return self.tier.level != "raid0"

    @property
    def file(self) -> str:
        """Path of the test file of 100 MB."""
        return f"{self.mount}/accept-{MEGABYTES}-mb"


def places(fleet: Fleet) -> list[Place]:
    return [
        Place(host, name, tier, tuple(drive.serial for drive in declared.members(name)))
        for host, declared in fleet.hosts.items()
        for name, tier in declared.tiers.items()
    ]


def write_random_fleet(directory: Path, log: Log, fits: Callable[[list[Place]], bool]) -> Path:
    """Write the first random fleet from SEED on that *fits*, and log its seed."""
    seed = next(seed for seed in range(SEED, SEED + 10_000) if fits(places(generate(seed))))
    path = directory.parent / f"{directory.name}.yaml"
    write_yaml(generate(seed), path)
    log(f"the fleet of seed {seed} (ACCEPT_SEED={seed} takes it again)")
    log.write(path.read_text())
    for place in places(twin_of(generate(seed))[0]):
        log(f"{place.resource}: {place.tier.level} of {len(place.serials)}, {place.tier.filesystem} at {place.mount}")
    return path


def unit(lab: Lab, place: Place) -> str:
    """Return the name of systemd's mount unit of *place*."""
    return lab.ssh(place.host, f"systemd-escape --path --suffix=mount {quote(place.mount)}")


def require_whole_tier(lab: Lab, place: Place) -> None:
    """Fail unless the host's own tools show the tier as declared."""
    facts = dict(_facts(lab, place))
    tier, failed = place.tier, []
    expected = {
        "MD_LEVEL": tier.level,
        "MD_DEVICES": str(len(place.serials)),
        "MD_METADATA": "1.2",
        "MD_NAME": f"{place.host}:{place.name}",
        "degraded": "no",
        "bitmap": "yes" if tier.has_bitmap else "no",
        "ppl": "yes" if tier.ppl else "no",
        "serials": " ".join(sorted(place.serials)),
        "filesystem": tier.filesystem,
        "mounted": facts.get("device", "?"),
        "enabled": "enabled",
        "active": "active",
        "wanted": facts.get("uuid", "?"),
    }
    for name, want in expected.items():
        if facts.get(name) != want:
            failed.append(f"{name} is {facts.get(name)}, wanted {want}")
    options = set(facts.get("options", "").split(","))
    failed += [f"not mounted {option}" for option in {"rw", *tier.options} - options]
    failed += [f"mounted {option}" for option in {"ro", "nosuid", "nodev"} & options - set(tier.options)]
    need(not failed, f"{place.resource}, by its host's own tools: {'; '.join(failed)}")


def _facts(lab: Lab, place: Place) -> Iterator[tuple[str, str]]:
    script = f"""
        md={place.device}; mount={quote(place.mount)}
        [ -e $md ] || {{ echo "device=no $md"; exit 0; }}
        mdadm --detail --export $md | grep -E '^MD_(LEVEL|DEVICES|METADATA|NAME)='
        mdadm --detail $md | grep -q 'State :.*degraded' && echo degraded=yes || echo degraded=no
        mdadm --detail $md | grep -q 'Intent Bitmap : Internal' && echo bitmap=yes || echo bitmap=no
        mdadm --detail $md | grep -q 'Consistency Policy : ppl' && echo ppl=yes || echo ppl=no
        echo "serials=$(for dev in $(mdadm --detail --export $md | sed -n 's/^MD_DEVICE_.*_DEV=//p'); do
            lsblk -dno SERIAL $dev; done | sort | xargs)"
        unit=$(systemd-escape --path --suffix=mount "$mount")
        echo "device=$(realpath $md)"
        echo "filesystem=$(blkid -o value -s TYPE $md)"
        echo "uuid=$(blkid -o value -s UUID $md)"
        echo "mounted=$(findmnt -no SOURCE --mountpoint "$mount")"
        echo "options=$(findmnt -no OPTIONS --mountpoint "$mount")"
        echo "enabled=$(systemctl is-enabled "$unit")"
        echo "active=$(systemctl is-active "$unit")"
        echo "wanted=$(systemctl cat "$unit" | sed -n 's,^What=/dev/disk/by-uuid/,,p')"
    """
    for line in lab.ssh(place.host, script).splitlines():
        name, _, value = line.partition("=")
        yield name, value


def write_file(lab: Lab, place: Place) -> str:
    """Write 100 MB of random data to the tier, and return its SHA-256 sum."""
    size = f"{MEGABYTES}M"
    lab.ssh(place.host, f"head -c {size} /dev/urandom > {quote(place.file)}; sync")
    return read_file(lab, place)


def read_file(lab: Lab, place: Place) -> str:
    """Return the SHA-256 sum of the 100 MB, read from the drives."""
    read = f"echo 3 > /proc/sys/vm/drop_caches; sha256sum < {quote(place.file)}"
    match = re.match(r"[0-9a-f]{64}", lab.ssh(place.host, read))
    return match[0] if match else "no sum"


def is_idle(lab: Lab, place: Place) -> bool:
    """Return whether md runs no sync on the tier."""
    action = f"cat /sys/block/$(basename $(realpath {place.device}))/md/sync_action 2>/dev/null || echo idle"
    return lab.ssh(place.host, action) == "idle"


def is_at_rest(lab: Lab, place: Place) -> bool:
    """Return whether md runs no sync, and no reshape is running or interrupted."""
    folder = md(lab, place)
    return lab.ssh(place.host, f"cat {folder}/sync_action {folder}/reshape_position").split() == ["idle", "none"]


def md(lab: Lab, place: Place) -> str:
    """Return the folder of the array in sysfs."""
    name = lab.ssh(place.host, f"basename $(realpath {place.device})")
    return f"/sys/block/{name}/md"


def is_degraded(lab: Lab, place: Place) -> bool:
    """Return whether the array misses a member. md notices that only at a write, so this writes."""
    write = f"date > {quote(place.mount)}/written; sync -f {quote(place.mount)}; mdadm --detail {place.device}"
    return "degraded" in lab.ssh(place.host, write)


def kib(lab: Lab, place: Place) -> int:
    """Return the size of the tier's filesystem, in KiB."""
    return int(lab.ssh(place.host, f"df -k --output=size {quote(place.mount)} | tail -n 1"))


def restart_hosts(lab: Lab, everywhere: list[Place]) -> None:
    """Restart the hosts of all tiers, and require whole tiers without a difference."""
    for host in {place.host: None for place in everywhere}:
        lab.log(f"{host}: restarted")
        lab.reboot(host)
    for place in everywhere:
        require_whole_tier(lab, place)
    need(not lab.differing(), "something differs after a restart")

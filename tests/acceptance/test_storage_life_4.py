"""Encrypted tiers: opened at boot, given another key, refused a wrong one, and erased; their keys show nowhere."""

import secrets
from typing import Any

import yaml

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.encrypted_lab import (
    CHANGED,
    HOST,
    KEPT,
    PLACES,
    SYNC_SECONDS,
    ask,
    is_erased,
    opens,
    project_files,
    rackwright_output,
    remove,
    watch_guest,
)
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.leaks import find_forms, forms, leaks
from tests.support.log import Log
from tests.support.tiers import Place, is_idle, places, read_file, write_file
from tests.support.watch import Watch

TIERS = {CHANGED: ("raid1", "xfs", "nvme", "512MB", 2), KEPT: ("raid5", "ext4", "sas", "256MB", 3)}
KEY = f"/etc/rackwright/tiers/{CHANGED}.key"


def fleet() -> str:
    drives: list[dict[str, Any]] = [{"serial": "RW-BOOT", "boot": True}]
    tiers = {}
    for name, (level, filesystem, bus, size, count) in TIERS.items():
        own = {"bus": bus, "size": size, "tier": name}
        drives += [{"serial": f"RW-{name}-{number}", **own} for number in range(count)]
        encryption = {"key": {"secret": f"{name}_key"}}
        tiers[name] = {"level": level, "filesystem": filesystem, "mount": f"/srv/{name}", "encryption": encryption}
    host = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "drives": drives,
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:04", "addresses": ["10.32.0.4/24"]}],
        "tiers": tiers,
    }
    return yaml.safe_dump({"fleet": "sealed", "hosts": {HOST: host}}, sort_keys=False)


@line("storage-life", 4)
def test_an_encrypted_tier_opens_at_boot_and_shows_no_key(log: Log) -> str:
    values = [f"{name}-{secrets.token_urlsafe(18)}" for name in ("old", "new")]
    planted = {"old": values[0], "new": values[1], "derived": derive_value(f"{KEPT}_key")}
    with Lab(log.empty_directory() / "project", fleet(), log) as lab, Watch() as watch:
        lab.environment["PULUMI_DEBUG_COMMANDS"] = "true"
        lab.pulumi("stack", "select", "--create", status=0)
        lab.start()
        watch_guest(lab)
        lab.set_secret(f"{CHANGED}_key", values[0])
        output = rackwright_output(lab, "up")
        need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
        here = {place.name: place for place in places(lab.fleet)}
        for place in here.values():
            eventually(lambda: is_idle(lab, place), f"the first sync of {place.resource} ends", SYNC_SECONDS)  # noqa: B023
            _is_encrypted(lab, place)
        sums = {name: write_file(lab, place) for name, place in here.items()}

        log("reboot")
        lab.reboot(HOST)
        watch_guest(lab)
        for place in here.values():
            mounted = f"findmnt -no SOURCE --mountpoint {place.mount}"
            eventually(
                lambda: lab.ssh(HOST, mounted, None) == f"/dev/mapper/tier-{place.name}",  # noqa: B023
                f"{place.resource} is open and mounted after the reboot",
                180,
            )
        need({name: read_file(lab, place) for name, place in here.items()} == sums, "data is not as it was written")

        log("a wrong key")
        lab.set_secret(f"{CHANGED}_key", values[1])
        ask(lab, f"cp -p {KEY} /root/kept; cat > {KEY}", "neither-of-the-two")
        output += rackwright_output(lab, "up", status=4)
        need(f"neither {KEY} nor the declared secret opens the LUKS header of {CHANGED}" in output, "no clear error")
        need(opens(lab, values[0]) and not opens(lab, values[1]), "a key slot was changed")

        log("another key")
        ask(lab, f"cat /root/kept > {KEY}; rm /root/kept")
        output += rackwright_output(lab, "up")
        need(opens(lab, values[1]) and not opens(lab, values[0]), "it is not the new key alone that opens")
        need(not (differing := lab.audit_differences(status=0)), f"{format_claims(differing)} differ with another key")
        need({name: read_file(lab, place) for name, place in here.items()} == sums, "data is not as it was written")
        output += rackwright_output(lab, "audit", "--save", str(lab.directory / "snapshots"))

        log("looking for the keys")
        wanted = forms(planted)
        found = [
            *leaks(wanted, *project_files(lab)),
            *(f"what commands printed: {name}" for name in find_forms(output.encode(), wanted)),
        ]
        found += [f"a command line here: {name}" for line in list(watch.lines) for name in find_forms(line, wanted)]
        shown = ask(lab, f"journalctl --no-pager; cat {PLACES} 2>/dev/null || true").encode(errors="surrogateescape")
        found += [f"the host: {name}" for name in find_forms(shown, wanted)]
        need(b"cryptsetup\0" in shown, "nobody saw cryptsetup run in the guest")
        need(not found, "; ".join(found[:8]))
        count = len(list(project_files(lab)))

        log("removal")
        # what no tier refers to any more has no derived value, so what stands in its place would be unknown
        lab.set_secret(f"{KEPT}_key", planted["derived"])
        remove(lab)
        for place in here.values():
            is_erased(lab, place)
    lived = "2 tiers opened at boot, one by another key later, sums as before, erased"
    return f"{lived}; {len(wanted)} forms of 3 keys in none of {count} files, nor of what was seen in the guest"


def _is_encrypted(lab: Lab, place: Place) -> None:
    """Fail unless the host's own tools say so."""
    script = f"""cryptsetup isLuks --type luks2 {place.device} && blkid -o value -s TYPE {place.device}
        cryptsetup luksDump {place.device} | grep -c ": luks2$"
        findmnt -no SOURCE --mountpoint {place.mount}; stat -c "%a %U" /etc/rackwright/tiers/{place.name}.*"""
    expected = ["crypto_LUKS", "1", f"/dev/mapper/tier-{place.name}", "600 root", "600 root"]
    need((found := lab.ssh(HOST, script).splitlines()) == expected, f"{place.resource} is {found}")

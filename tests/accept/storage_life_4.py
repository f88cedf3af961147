"""Encrypted tiers: opened at boot, given another key, refused a wrong one, and erased; their keys show nowhere."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from rackwright.spec.secret import derived
from tests.accept.harness import Log, check, eventually, need
from tests.accept.lab import Lab, told
from tests.accept.roles_6 import Watch
from tests.accept.tiers import DEVICE, Place, idle, places, read_file, write_file
from tests.leaks import files, forms, leaks, seen

HOST = "alpha"
CHANGED, KEPT = "hot", "warm"
"""The tier whose key changes, and the one whose key nobody sets."""
TIERS = {CHANGED: ("raid1", "xfs", "nvme", "512MB", 2), KEPT: ("raid5", "ext4", "sas", "256MB", 3)}
SYNC_SECONDS = 600
KEY = f"/etc/rackwright/tiers/{CHANGED}.key"
WATCHED = "/var/tmp/watched"
WATCH = f"""import glob, time
seen = set()
with open("{WATCHED}", "ab", 0) as log:
    while True:
        for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
            try:
                text = open(path, "rb").read()
            except OSError:
                continue
            if text not in seen:
                seen.add(text)
                log.write(text + b"\\n")
        time.sleep(0.5)
"""
"""Notes in the guest what each process shows of itself. Whatever has to do with a key takes seconds."""
OPENS = "cryptsetup open --test-passphrase --type luks2 --key-file - /dev/md/{name}"
PLACES = f"{WATCHED} /run/rackwright/* /var/lib/rackwright/owners/* /etc/systemd/system/*.*"


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


@check("storage-life.4")
def an_encrypted_tier_lives(log: Log) -> str:
    values = [f"{name}-{secrets.token_urlsafe(18)}" for name in ("old", "new")]
    planted = {"old": values[0], "new": values[1], "derived": derived(f"{KEPT}_key")}
    with Lab(log.empty_directory() / "project", fleet(), log) as lab, Watch() as watch:
        lab.environment["PULUMI_DEBUG_COMMANDS"] = "true"
        lab.pulumi("stack", "select", "--create", status=0)
        lab.start()
        watch_guest(lab)
        lab.set_secret(f"{CHANGED}_key", values[0])
        said = say(lab, "up")
        need(not (differing := lab.differing()), f"{told(differing)} differ after up")
        here = {place.name: place for place in places(lab.fleet)}
        for place in here.values():
            eventually(lambda: idle(lab, place), f"the first sync of {place.resource} ends", SYNC_SECONDS)  # noqa: B023
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
        said += say(lab, "up", status=4)
        need(f"neither {KEY} nor the declared secret opens the LUKS header of {CHANGED}" in said, "no clear error")
        need(opens(lab, values[0]) and not opens(lab, values[1]), "a key slot was changed")

        log("another key")
        ask(lab, f"cat /root/kept > {KEY}; rm /root/kept")
        said += say(lab, "up")
        need(opens(lab, values[1]) and not opens(lab, values[0]), "it is not the new key alone that opens")
        need(not (differing := lab.audited(status=0)), f"{told(differing)} differ with another key")
        need({name: read_file(lab, place) for name, place in here.items()} == sums, "data is not as it was written")
        said += say(lab, "audit", "--save", str(lab.directory / "snapshots"))

        log("looking for the keys")
        wanted = forms(planted)
        found = [*leaks(wanted, *kept(lab)), *(f"what commands said: {name}" for name in seen(said.encode(), wanted))]
        found += [f"a command line here: {name}" for line in list(watch.lines) for name in seen(line, wanted)]
        shown = ask(lab, f"journalctl --no-pager; cat {PLACES} 2>/dev/null || true").encode(errors="surrogateescape")
        found += [f"the host: {name}" for name in seen(shown, wanted)]
        need(b"cryptsetup\0" in shown, "nobody saw cryptsetup run in the guest")
        need(not found, "; ".join(found[:8]))
        count = len(list(kept(lab)))

        log("removal")
        # what no tier refers to any more has no derived value, so what stands in its place would be unknown
        lab.set_secret(f"{KEPT}_key", planted["derived"])
        remove(lab)
        for place in here.values():
            is_erased(lab, place)
    lived = "2 tiers opened at boot, one by another key later, sums as before, erased"
    return f"{lived}; {len(wanted)} forms of 3 keys in none of {count} files, nor of what was seen in the guest"


def say(lab: Lab, *command: str, status: int = 0) -> str:
    verb, *rest = command
    done = lab.rackwright(verb, lab.stack, *rest, status=status)
    return done.stdout + done.stderr


def ask(lab: Lab, script: str, input: str = "") -> str:
    """Run *script* as root on the host, past the check's own log, and return what it prints."""
    argv = lab.twin.ssh(HOST, f"sudo -n sh -ec '{script}'")
    done = subprocess.run(argv, input=input.encode(), capture_output=True)
    need(done.returncode == 0, f"`{script}` ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="surrogateescape").strip()


def watch_guest(lab: Lab) -> None:
    ask(lab, f"cat > {WATCHED}.py; systemd-run --quiet --unit=watched python3 {WATCHED}.py", WATCH)


def opens(lab: Lab, key: str) -> bool:
    script = f"{OPENS.format(name=CHANGED)} >/dev/null 2>&1 && echo yes || echo no"
    return ask(lab, script, key) == "yes"


def _is_encrypted(lab: Lab, place: Place) -> None:
    """Raise Short unless the host's own tools say so."""
    script = f"""cryptsetup isLuks --type luks2 {place.device} && blkid -o value -s TYPE {place.device}
        cryptsetup luksDump {place.device} | grep -c ": luks2$"
        findmnt -no SOURCE --mountpoint {place.mount}; stat -c "%a %U" /etc/rackwright/tiers/{place.name}.*"""
    expected = ["crypto_LUKS", "1", f"/dev/mapper/tier-{place.name}", "600 root", "600 root"]
    need((found := lab.ssh(HOST, script).splitlines()) == expected, f"{place.resource} is {found}")


def kept(lab: Lab) -> Iterator[Path]:
    """Yield what the project keeps, and the check's log; not the host's own disks, of which one has keys by right."""
    own = (path for path in lab.directory.iterdir() if not path.is_symlink())
    yield from (path for path in files(*own, lab.log.path) if not path.is_relative_to(lab.twin.layout.disks))


def remove(lab: Lab) -> None:
    def consent(content: Any) -> None:
        for tier in content["hosts"][HOST]["tiers"].values():
            tier["destroy"] = "allowed"

    def remove(content: Any) -> None:
        host = content["hosts"][HOST]
        del host["tiers"]
        for drive in host["drives"]:
            drive.pop("tier", None)

    for change in (consent, remove):
        lab.edit(change)
        lab.up()


def is_erased(lab: Lab, place: Place) -> None:
    """Raise Short where a member, or the boot drive, has anything left by which it could be opened."""
    script = f"""{DEVICE}
        for serial in {" ".join(place.serials)}; do
            drive=$(device $serial); wipefs -n $drive
            head -c 64M $drive | LC_ALL=C grep -c -a -P "(LUKS|SKUL)\\xba\\xbe" || true
        done
        ls -A /etc/rackwright/tiers /dev/mapper | grep {place.name} || true"""
    found = lab.ssh(HOST, script).split()
    need(found == ["0"] * len(place.serials), f"of {place.resource} there is left: {found}")

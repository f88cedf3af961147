"""A host with encrypted tiers, and where their keys may not appear."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.leaks import files
from tests.support.tiers import DEVICE, Place

HOST = "alpha"
CHANGED, KEPT = "hot", "warm"
"""Tiers: one whose key changes, and one whose key is never set."""
SYNC_SECONDS = 600
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


def rackwright_output(lab: Lab, *command: str, status: int = 0) -> str:
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


def project_files(lab: Lab) -> Iterator[Path]:
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
    """Fail where a member, or the boot drive, has anything left by which it could be opened."""
    script = f"""{DEVICE}
        for serial in {" ".join(place.serials)}; do
            drive=$(device $serial); wipefs -n $drive
            head -c 64M $drive | LC_ALL=C grep -c -a -P "(LUKS|SKUL)\\xba\\xbe" || true
        done
        ls -A /etc/rackwright/tiers /dev/mapper | grep {place.name} || true"""
    found = lab.ssh(HOST, script).split()
    need(found == ["0"] * len(place.serials), f"of {place.resource} there is left: {found}")

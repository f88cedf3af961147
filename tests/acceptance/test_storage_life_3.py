"""An operator adopts a host that was set up by hand, and nothing on it changes."""

import base64
import json
from shlex import quote

import yaml

from rackwright.hosts.pins import fingerprint
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log
from tests.support.tiers import DEVICE

HOST = "alpha"
QUIET, BUSY = "/data/archive", "/scratch"
DRIVES = {"nvme": ("RW-N0", "RW-N1"), "sas": ("RW-S0", "RW-S1", "RW-S2")}
FLEET = {
    "fleet": "bare",
    "hosts": {
        HOST: {
            "address": "192.0.2.1",
            "identity": {"serial": "S-ALPHA"},
            "os": "debian-12",
            "drives": [
                {"serial": "RW-BOOT", "boot": True},
                *({"serial": serial, "bus": bus, "size": "256MB"} for bus, all in DRIVES.items() for serial in all),
            ],
            "nics": [{"name": "fabric0", "mac": "52:54:00:00:08:03", "addresses": ["10.32.0.3/24"]}],
        }
    },
}
BY_HAND = f"""{DEVICE}
mdadm --create /dev/md/box --run --quiet --level=1 --raid-devices=2 --metadata=1.0 --name=box --homehost=somebody \
    --bitmap=internal $(device RW-N0) $(device RW-N1)
mdadm --create /dev/md7 --run --quiet --level=5 --raid-devices=3 --chunk=64 \
    $(device RW-S0) $(device RW-S1) $(device RW-S2)
mkfs.ext4 -qF -L archive /dev/md/box; mkfs.xfs -qf /dev/md7
mdadm --detail --scan >> /etc/mdadm/mdadm.conf
mkdir -p {QUIET} {BUSY}
printf 'LABEL=archive {QUIET} ext4 ro 0 2\\n/dev/md7 {BUSY} xfs noatime 0 0\\n' >> /etc/fstab
mount /dev/md/box {QUIET}; head -c 20M /dev/urandom > {QUIET}/kept; umount {QUIET}
systemctl daemon-reload; mount {QUIET}; mount {BUSY}
head -c 20M /dev/urandom > {BUSY}/kept; sync
"""
QUIET_NOW = f"""{DEVICE}
if grep -q -e resync -e recovery /proc/mdstat; then echo syncing; exit; fi
mdadm --examine-bitmap $(device RW-N0) | grep -q ' 0 dirty' && echo quiet || echo noting
"""
SUMS = f"echo 3 > /proc/sys/vm/drop_caches; sha256sum {QUIET}/kept {BUSY}/kept"
ENDS = f"""{DEVICE}
for serial in {" ".join(DRIVES["nvme"])}; do
    drive=$(device $serial); end=$(($(blockdev --getsz $drive) - 2048))
    dd if=$drive bs=1M count=1 iflag=direct status=none | sha256sum
    dd if=$drive bs=512 skip=$end count=2048 iflag=direct status=none | sha256sum
done
dd if=/dev/md/box bs=1M count=1 iflag=direct status=none | sha256sum
find /etc /var/lib/rackwright -type f -exec sha256sum {{}} + 2>/dev/null | sort -k 2 | sha256sum
"""
"""What stands where superblocks stand, of an array that nobody writes to; and every file that could be ours."""


@line("storage-life", 3)
def test_arrays_made_by_hand_are_adopted_unchanged(log: Log) -> str:
    directory = log.empty_directory()
    text = yaml.safe_dump(FLEET, sort_keys=False)
    with Lab(directory / "machine", text, log) as machine:
        machine.start()
        log("setting two arrays up by hand")
        machine.ssh(HOST, BY_HAND)
        eventually(lambda: machine.ssh(HOST, QUIET_NOW) == "quiet", "md has nothing more to write", 600)
        sums, ends = machine.ssh(HOST, SUMS), machine.ssh(HOST, ENDS)
        with Lab(directory / "project", text, log, stack="prod", target="rack") as lab:
            lab.fleet_path.unlink()
            _discover(lab, machine)
            lab.rackwright("check", lab.stack, status=0)
            log("adopt")
            adopted = json.loads(lab.rackwright("adopt", lab.stack, "--json", status=0).stdout)
            tiers = [name for name in adopted["adopted"] if "/" in name]
            need(len(tiers) == 2 and not adopted["changes"], f"adopt says {adopted}")
            need(machine.ssh(HOST, ENDS) == ends, "superblocks or files of the host are not as before")
            need(not (differing := lab.differing()), f"{format_claims(differing)} differ after adopt")
            need(machine.ssh(HOST, SUMS) == sums, "the data is not as before")

            log("what was taken over is watched, and mended by what mounts it")
            machine.ssh(HOST, f"umount {quote(BUSY)}")
            differing = lab.differing()
            need({claim for _, claim in differing} == {f"mount:{BUSY}"}, f"{format_claims(differing)} differ")
            lab.up()
            need(not (differing := lab.differing()), f"{format_claims(differing)} differ after up")
            need(machine.ssh(HOST, SUMS) == sums, "the data is not as before")
        return f"{', '.join(tiers)} adopted; superblocks, files and sums as before; preview clean"


def _discover(lab: Lab, machine: Lab) -> None:
    """Write the host down as it is, its key shown beforehand."""
    layout, port = machine.twin.layout, machine.twin.settings(HOST).port
    _, _, key = layout.known_hosts.read_text().splitlines()[0].split()[:3]
    trusted = ("--fingerprint", fingerprint(base64.b64decode(key)))
    at = f"rackwright@127.0.0.1:{port}"
    lab.rackwright("discover", at, "--key", str(layout.key), *trusted, "--into", str(lab.fleet_path), status=0)
    lab.log.write(lab.fleet_path.read_text())

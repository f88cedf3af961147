"""The probe in a virtual machine, against what mdadm, findmnt, lsblk and systemctl say there."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest

from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.probe import block
from rackwright.twin import Twin, VirtualDrive, VirtualMachine

pytestmark = pytest.mark.twin

DRIVES = (
    VirtualDrive("F1-BOOT", "virtio", 4 << 30, boot=True),
    VirtualDrive("F1-NVME0", "nvme", 256_000_000),
    VirtualDrive("F1-NVME1", "nvme", 256_000_000),
    VirtualDrive("F1-SAS0", "sas", 512_000_000, rotational=True, wwn="0x5000c50000000f10"),
    VirtualDrive("F1-SAS1", "sas", 256_000_000, rotational=True, wwn="0x5000c50000000f11"),
)
MADE = """
set -e
by_serial() { lsblk --nodeps --noheadings --paths --output NAME,SERIAL | awk -v serial="$1" '$2 == serial {print $1}'; }
mdadm --create /dev/md/hot --run --homehost=gpu-01 --name=hot --level=1 --raid-devices=2 --bitmap=internal \
    "$(by_serial F1-NVME0)" "$(by_serial F1-NVME1)"
mkfs.ext4 -q -E stride=16,stripe_width=32 /dev/md/hot
mkdir -p "/srv/with blank" && mount -o noatime /dev/md/hot "/srv/with blank"
mkfs.xfs -q "$(by_serial F1-SAS0)"
mdadm --create /dev/md/idle --run --force --homehost=gpu-01 --name=idle --level=0 --raid-devices=1 \
    "$(by_serial F1-SAS1)"
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., bytes]]:
    """Return a function that runs a command as root in a machine with an array, a filesystem and a mount."""
    twin = Twin(tmp_path_factory.mktemp("facts"), [VirtualMachine("gpu-01", "CHASSIS-F1", DRIVES)])

    def run(*argv: str, given: bytes = b"") -> bytes:
        command = twin.ssh("gpu-01", shlex.join(("sudo", "-n", *argv)))
        done = subprocess.run(command, input=given, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    twin.start(lambda text: None)
    try:
        run("bash", "-c", MADE)
        run("udevadm", "settle")
        yield run
    finally:
        twin.stop(lambda text: None, grace_seconds=0)


def look(guest: Callable[..., bytes]) -> Facts:
    return probe.parse(guest(*probe.command(), given=probe.stdin(b"salt")), "gpu-01")


@pytest.fixture(scope="module")
def facts(guest: Callable[..., bytes]) -> Facts:
    return look(guest)


def test_the_machine_is_known_by_its_chassis(facts):
    assert (facts.identity.serial, facts.identity.hostname) == ("CHASSIS-F1", "gpu-01")


def test_drives_are_those_of_lsblk(guest, facts):
    listed = json.loads(guest("lsblk", "--json", "--nodeps", "--bytes", "--output", "NAME,SERIAL,SIZE,ROTA,TRAN,TYPE"))
    disks = [disk for disk in listed["blockdevices"] if disk["type"] == "disk"]

    assert {(drive.name, drive.serial, drive.size_bytes, drive.rotational, drive.bus) for drive in facts.drives} == {
        (disk["name"], disk["serial"], disk["size"], disk["rota"], disk["tran"] or "virtio") for disk in disks
    }


def test_the_array_is_that_of_mdadm(guest, facts):
    said = dict(re.findall(r"MD_(\w+)=(.*)", guest("mdadm", "--detail", "--export", "/dev/md/hot").decode()))
    (array,) = (array for array in facts.arrays if array.md_name == "gpu-01:hot")

    assert {"UUID": array.uuid, "NAME": array.md_name, "LEVEL": array.level}.items() <= said.items()
    assert (array.devices, array.metadata) == (int(said["DEVICES"]), said["METADATA"])
    assert array.bitmap == "internal"
    for number in (0, 1):
        drive = facts.drive(f"F1-NVME{number}")
        examined = guest("mdadm", "--examine", "--export", drive.path).decode()
        assert f"MD_UUID={drive.superblock.array_uuid}\n" in examined
        assert drive.holders == (array.name,)


def test_the_mount_and_its_filesystem_are_those_of_findmnt(guest, facts):
    argv = ("findmnt", "--json", "--canonicalize", "--output", "SOURCE,FSTYPE,OPTIONS,UUID", "/srv/with blank")
    (said,) = json.loads(guest(*argv))["filesystems"]
    (mount,) = (mount for mount in facts.mounts if mount.target == "/srv/with blank")
    (filesystem,) = (filesystem for filesystem in facts.filesystems if filesystem.device == mount.device)

    assert (f"/dev/{mount.device}", mount.type) == (said["source"], said["fstype"])
    assert set(mount.options) == set(said["options"].split(","))
    assert (filesystem.uuid, filesystem.complete) == (said["uuid"], True)
    assert filesystem.stripe_width_bytes == 2 * filesystem.stripe_unit_bytes > 0


def test_a_drive_that_nobody_uses_tells_its_content(facts):
    (signature,) = facts.drive("F1-SAS0").signatures

    assert facts.drive("F1-SAS0").content.startswith(f"xfs {signature.uuid}, first MiB ")


def test_what_is_written_through_an_idle_array_changes_what_its_member_carries(guest, facts):
    """
    It goes past the page cache of the member, which still holds what the first probe read there. RAID0: no other level
    leaves the superblock as it was.
    """
    before = facts.drive("F1-SAS1")
    (array,) = (array for array in facts.arrays if array.md_name == "gpu-01:idle")
    start = int(guest("cat", f"/sys/block/{array.name}/md/dev-{before.name}/offset"))
    sector = block.sample_places(before.size_bytes)["data"][8] // 512 - start
    guest("dd", "if=/dev/urandom", f"of=/dev/{array.name}", f"seek={sector}", "count=1", "oflag=direct", "status=none")

    after = look(guest).drive("F1-SAS1")

    assert before.content.startswith("linux_raid_member ")
    assert after.content != before.content
    assert after.superblock.events == before.superblock.events, "what changed is the data alone"


def test_units_are_enabled_as_systemd_says(guest, facts):
    printed = guest("systemctl", "list-unit-files", "--no-legend", "--full", "--no-pager").decode()
    said = {line.split()[0]: line.split()[1] for line in printed.splitlines()}

    assert {name: facts.unit(name).enabled for name in said} == said
    assert facts.unit("ssh.service").active == "active"


def test_nothing_is_unknown_that_the_machine_can_tell(facts):
    """
    What stays unknown is what a drive in use, or a unit that systemd has not loaded, cannot tell.
    """
    places = {key: facts.read(key) for key in facts.raw if key not in ("units", "drives")}
    drives = [{key: value for key, value in drive.items() if key != "sample"} for drive in facts.read("drives")]

    assert '"unknown"' not in json.dumps([places, drives])

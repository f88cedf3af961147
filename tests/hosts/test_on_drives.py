"""What writes to drives on the host, on files in their place: it looks at what it holds, and only then writes."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.content import describe
from rackwright.facts.probe import block
from rackwright.hosts.onhost import on_drives
from rackwright.hosts.onhost.on_drives import DriveStepRefused
from tests.support.drive_content import MEMBER, member_of_version_1_0
from tests.support.fabricated_machine import MIB, FabricatedMachine

SIZE = 64 * MIB


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FabricatedMachine:
    """A machine with the drives S1, which has an ext4, and S2, which is blank."""
    machine = FabricatedMachine(tmp_path)
    for number, name in enumerate(("sda", "sdb"), start=1):
        machine.device(name, SIZE)
        machine.write(f"sys/block/{name}/dev", "0:0\n")  # as a file has it
        machine.write(f"sys/block/{name}/serial", f"S{number}\n")
    subprocess.run(["mkfs.ext4", "-q", "-F", tmp_path / "dev/sda"], check=True)
    for name in on_drives.ENVIRONMENT:  # the program sets its own environment, and the tests after it need theirs
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setattr(on_drives, "flush", lambda device: None)  # what only a block device knows
    monkeypatch.setattr(on_drives, "settle", lambda: None)
    return machine


def holds(machine: FabricatedMachine, name: str = "sda") -> str:
    return describe(block.drive(block.BlockDevices(machine.top), name))


def bytes_of(machine: FabricatedMachine, name: str = "sda") -> bytes:
    return (machine.root / "dev" / name).read_bytes()


def test_a_wipe_leaves_no_signature_and_both_ends_blank(machine):
    on_drives.do(["wipe", "S1"], {"S1": holds(machine)}, machine.top)

    found = bytes_of(machine)
    assert found[:MIB] == found[-MIB:] == bytes(MIB)
    assert all(part.startswith("data ") for part in filter(None, holds(machine).split(", ")))


def test_another_content_than_the_consented_one_is_kept(machine):
    consent = holds(machine)
    subprocess.run(["mkfs.ext4", "-q", "-F", machine.root / "dev/sda"], check=True)
    before = bytes_of(machine)

    with pytest.raises(DriveStepRefused, match="^drive S1 holds ext4 .* now, and the plan was made for ext4 "):
        on_drives.do(["wipe", "S1"], {"S1": consent}, machine.top)
    assert bytes_of(machine) == before


def test_what_comes_while_it_is_opened_is_kept(machine, monkeypatch):
    """
    The content counts that is there when the drive is held, not one that was looked at before.
    """
    consent, real = holds(machine), os.open

    def late(path: Any, flags: int, *more: Any, **rest: Any) -> int:
        if flags & os.O_EXCL:
            subprocess.run(["mkfs.ext4", "-q", "-F", machine.root / "dev/sda"], check=True)
        return real(path, flags, *more, **rest)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(DriveStepRefused, match="and the plan was made for"):
        on_drives.do(["wipe", "S1"], {"S1": consent}, machine.top)
    assert bytes_of(machine)[1080:1082] == b"\x53\xef"


def test_a_drive_that_the_kernel_keeps_for_another_is_not_written(machine, monkeypatch):
    consent, before, real = holds(machine), bytes_of(machine), os.open
    machine.write("sys/block/sda/dev", "254:7\n")
    machine.mount("sda", "/mnt/it")
    machine._link("sys/dev/block/254:7", (machine.root / "sys/block/sda").resolve())

    def busy(path: Any, flags: int, *more: Any, **rest: Any) -> int:
        if flags & os.O_EXCL:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        return real(path, flags, *more, **rest)

    monkeypatch.setattr(os, "open", busy)
    with pytest.raises(DriveStepRefused, match="^drive S1 is in use by /mnt/it$"):
        on_drives.do(["wipe", "S1"], {"S1": consent}, machine.top)
    assert bytes_of(machine) == before


def test_what_cannot_be_looked_at_is_not_written(machine):
    consent, before = holds(machine), bytes_of(machine)
    (machine.root / "proc/self/mountinfo").unlink()

    with pytest.raises(DriveStepRefused, match="^what is on drive S1 cannot be known"):
        on_drives.do(["wipe", "S1"], {"S1": consent}, machine.top)
    assert bytes_of(machine) == before


@pytest.mark.parametrize("serial", ["S2", "S9"])
def test_a_serial_that_is_there_twice_or_not_at_all_names_no_drive(machine, serial):
    machine.write("sys/block/sda/serial", "S2\n")

    with pytest.raises(DriveStepRefused, match=f"(more than one|no) drive {serial} here"):
        on_drives.do(["wipe", serial], {serial: ""}, machine.top)


def test_a_command_begins_while_its_drives_are_held(machine, monkeypatch):
    """
    The kernel lets go of them as the process becomes the command, and no sooner.
    """
    began = []

    def become(program: str, argv: list[str]) -> None:
        opened = {str(each.resolve()) for each in Path("/proc/self/fd").iterdir()}
        began.append((argv, {path for path in opened if path.startswith(machine.top)}))

    monkeypatch.setattr(os, "execv", become)
    expects = {"S1": holds(machine), "S2": ""}
    on_drives.do(["true", "--add", "${drive:S1}", "${drive:S2}"], expects, machine.top)

    paths = [f"{machine.top}/dev/sda", f"{machine.top}/dev/sdb"]
    assert began == [(["true", "--add", *paths], {*paths})]


def test_a_command_is_not_begun_where_one_of_its_drives_has_something_new(machine, monkeypatch):
    monkeypatch.setattr(os, "execv", lambda program, argv: pytest.fail("it began"))

    with pytest.raises(DriveStepRefused, match="^drive S1 holds ext4 .* now, and the plan was made for a blank drive$"):
        on_drives.do(["true", "${drive:S1}"], {"S2": "", "S1": ""}, machine.top)


def test_a_member_loses_its_signatures_if_it_is_still_one(machine):
    image = machine.root / "dev/sda"
    machine.write("sys/block/sda/size", f"{MEMBER['size'] // 512}\n")
    image.write_bytes(b"")
    with image.open("r+b") as file:
        file.truncate(MEMBER["size"])
    member_of_version_1_0(image)
    [row] = [row for row in block.BlockDevices(machine.top).signatures["sda"] if row["type"] == "linux_raid_member"]
    uuid = block.superblock(str(image), [row])["array_uuid"]

    with pytest.raises(DriveStepRefused, match="^drive S1 is no member of another any more$"):
        on_drives.do(["erase-member", "S1", "another"], {}, machine.top)
    assert block.BlockDevices(machine.top).signatures["sda"]

    on_drives.do(["erase-member", "S1", uuid], {}, machine.top)
    assert block.BlockDevices(machine.top).signatures["sda"] == []


def test_the_status_reports_whether_anything_was_written(machine, capsys):
    job = {"argv": ["wipe", "S1"], "expects": {"S1": ""}, "root": machine.top}

    with pytest.raises(SystemExit) as ended:
        on_drives.main(job)

    assert ended.value.code == on_drives.REFUSED
    assert capsys.readouterr().err.endswith("and the plan was made for a blank drive; nothing was written\n")

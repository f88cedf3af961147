"""Data that comes between a plan and its step, and drives that come and go while a unit waits, in other forms."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.hosts.onhost import on_drives, runner
from rackwright.hosts.onhost.on_drives import DriveStepRefused, open_exclusive
from tests.hosts.test_on_drives import SIZE, bytes_of, holds
from tests.hosts.test_on_drives import machine as drives
from tests.hosts.test_runner import add_drive, machine
from tests.hosts.test_runner_at_rest import printing, resting
from tests.support.fabricated_machine import MIB, FabricatedMachine
from tests.support.own_clock import own_clock

__all__ = ["drives", "machine", "resting"]
LATE = {
    "xfs": "truncate --size 400M $D; mkfs.xfs -q -f $D",
    "swap": "mkswap $D",
    "LUKS": "echo secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $D -",
    "bytes at the beginning": "printf data | dd of=$D seek=8192 oflag=seek_bytes conv=notrunc status=none",
    "bytes at the end": f"printf data | dd of=$D seek={SIZE - 100} oflag=seek_bytes conv=notrunc status=none",
    "a label": "tune2fs -L payroll $D",
    "a file": "debugfs -w -R 'write /etc/hostname a' $D",
    "no filesystem": "wipefs --quiet --all $D; printf data | dd of=$D conv=notrunc status=none",
}
"""Writes to a drive with an ext4 while the step opens it; D is its image."""
USES = {
    "a mount": ("mkfs.ext4 -q $L; mount $L $M", "umount $M"),
    "a mount that only reads": ("mkfs.ext4 -q $L; mount -o ro $L $M", "umount $M"),
    "a mount of xfs": ("mkfs.xfs -q $L; mount $L $M", "umount $M"),
    "a mount without a path": ("mkfs.ext4 -q $L; mount $L $M; cd $M; umount --lazy $M", "cd /"),
    "swap": ("mkswap $L; swapon $L", "swapoff $L"),
}
"""Uses of a drive, each with the command that ends it; L is a device and M a directory."""


@pytest.mark.parametrize("name", LATE)
def test_what_comes_when_a_drive_is_opened_is_kept(
    drives: FabricatedMachine, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    consent, real, image = holds(drives), os.open, drives.root / "dev/sda"

    def late(path: Any, flags: int, *more: Any, **rest: Any) -> int:
        if flags & os.O_EXCL:
            subprocess.run(["sh", "-ec", LATE[name]], env={**os.environ, "D": str(image)}, check=True)
            kept.append(bytes_of(drives))
        return real(path, flags, *more, **rest)

    kept: list[bytes] = []
    monkeypatch.setattr(os, "open", late)
    with pytest.raises(DriveStepRefused, match="and the plan was made for"):
        on_drives.do(["wipe", "S1"], {"S1": consent}, drives.top)
    assert bytes_of(drives) == kept[0]


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True).stdout
    yield device.strip()
    subprocess.run(["losetup", "--detach", device.strip()], check=True)


@pytest.mark.parametrize("name", USES)
def test_a_drive_that_the_kernel_uses_is_not_opened(loop: str, tmp_path: Path, name: str) -> None:
    begin, end = USES[name]
    (tmp_path / "mount").mkdir()
    script = f"set -e; {begin}; echo ready; read answer; {end}"
    environment = {**os.environ, "L": loop, "M": str(tmp_path / "mount")}
    pipe = subprocess.PIPE
    with subprocess.Popen(["bash", "-mc", script], env=environment, stdin=pipe, stdout=pipe, text=True) as user:
        assert user.stdout is not None and user.stdin is not None
        assert "ready\n" in iter(user.stdout.readline, "")
        with pytest.raises(OSError, match="busy"), open_exclusive(loop, os.O_RDWR):
            pass
        user.communicate("end\n")
    with open_exclusive(loop, os.O_RDWR):
        pass


def rename(machine: Path, *pairs: tuple[str, str]) -> None:
    """Give drives other kernel names, also as members of the array."""
    for old, new in pairs:
        for folder in ("sys/class/block/", "sys/block/", "dev/", "sys/class/block/md127/md/dev-"):
            if (place := machine / f"{folder}{old}").exists():
                place.rename(machine / f"{folder}{new}")


def exchange(machine: Path) -> None:
    rename(machine, ("nvme0n1", "swap"), ("nvme1n1", "nvme0n1"), ("swap", "nvme1n1"))


def come_back(machine: Path) -> None:
    rename(machine, ("nvme0n1", "nvme9n1"))


def others_come(machine: Path) -> None:
    come_back(machine)
    for number, name in enumerate(("nvme0n1", "nvme5n1", "nvme6n1")):
        add_drive(machine, name, f"RW-LATE{number}")


def rotate(machine: Path) -> None:
    add_drive(machine, "nvme2n1", "RW-THIRD")
    rename(machine, ("nvme0n1", "swap"), ("nvme2n1", "nvme0n1"), ("nvme1n1", "nvme2n1"), ("swap", "nvme1n1"))


MOVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "two drives exchange their names": (exchange, "nvme1n1"),
    "a drive comes back under another name": (come_back, "nvme9n1"),
    "three drives come, one to its name": (others_come, "nvme9n1"),
    "three drives exchange their names": (rotate, "nvme1n1"),
    "nothing moves": (lambda machine: None, "nvme0n1"),
}
"""Events while a unit waits for md, each with the name of the drive after it."""


def wait_for(monkeypatch: pytest.MonkeyPatch, resting: Path, move: Callable[[], object]) -> None:
    """Have *move* happen while the unit waits."""
    (resting / "sync_action").write_text("recover\n")

    def wait(seconds: float) -> None:
        move()
        (resting / "sync_action").write_text("idle\n")

    own_clock(monkeypatch, runner, sleep=wait)


@pytest.mark.parametrize("name", MOVES)
def test_a_unit_takes_the_drive_with_its_serial_after_the_wait(
    resting: Path, machine: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    move, expected = MOVES[name]
    wait_for(monkeypatch, resting, lambda: move(machine))

    with pytest.raises(SystemExit) as ended:
        runner.run_at_rest({"array": "lab:hot", "argv": printing("${drive:RW-NVME0}")})

    assert ended.value.code == 0
    assert json.loads(capfd.readouterr().out) == [f"{machine}/dev/{expected}"]


def test_a_second_drive_with_the_serial_stops_the_command(
    resting: Path, machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wait_for(monkeypatch, resting, lambda: add_drive(machine, "nvme8n1", "RW-NVME0"))

    with pytest.raises(SystemExit, match="RW-NVME0"):
        runner.run_at_rest({"array": "lab:hot", "argv": ["touch", str(tmp_path / "begun"), "${drive:RW-NVME0}"]})

    assert not (tmp_path / "begun").exists()

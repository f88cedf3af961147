"""Writes of other sorts after a consent: each one that shows ends it, and where none shows the probe says so."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rackwright.facts.content import covers, unwitnessed_parts
from tests.facts.test_content import LENGTH, SIZE, START, Partitioned, drive
from tests.support.fabricated_machine import MIB

__all__ = ["drive"]
EXT2, EXT4, XFS = "mkfs.ext2 -q -F $P", "mkfs.ext4 -q -F $P", "mkfs.xfs -q -f $P"
MOUNTED = "mkdir -p $P.d; mount -o loop $P $P.d; {}; umount $P.d"
NOTHING, A_FILE, NO_FILE = (MOUNTED.format(each) for each in ("true", "echo a > $P.d/a", "rm $P.d/a"))
WITNESSED = {
    "ext4 that was mounted": (EXT4, NOTHING),
    "ext4 with one more file": (EXT4, A_FILE),
    "ext4 with one file less": (f"{EXT4}; {A_FILE}", NO_FILE),
    "ext4 without a journal": (f"{EXT4} -O ^has_journal", A_FILE),
    "ext4 after one more write to a file": (f"{EXT4}; {A_FILE}", MOUNTED.format("echo b >> $P.d/a")),
    "ext2": (EXT2, A_FILE),
    "xfs that was mounted": (XFS, NOTHING),
    "xfs with one more file": (XFS, A_FILE),
    "xfs with one file less": (f"{XFS}; {A_FILE}", NO_FILE),
    "another label of ext4": (EXT4, "tune2fs -L payroll $P"),
    "another label of xfs": (XFS, "xfs_admin -L payroll $P"),
    "another identity of ext4": (EXT4, "tune2fs -U random $P"),
    "xfs in the place of ext4": (EXT4, XFS),
    "the same filesystem made again": (EXT4, EXT4),
    "swap made again": ("mkswap $P", "mkswap $P"),
    "a filesystem in the place of swap": ("mkswap $P", EXT4),
}
"""How a partition is made, and what is done to it after the consent; P is its image."""
UNWITNESSED = {"swap": "mkswap $P", "raw data": "printf data > $P.x; dd if=$P.x of=$P conv=notrunc status=none"}
OF_DRIVE: dict[str, Callable[[Partitioned], object]] = {
    "before the first partition": lambda each: each.write(100 * 512, b"a loader"),
    "at the end": lambda each: each.write(SIZE - 4096, b"a copy of the table"),
    "one more partition": lambda each: each.write(446 + 16 + 4, b"\x83"),
    "another table": lambda each: each.write(446, b"\x80"),
}
"""Writes beside the partition."""


def run(script: str, image: Path) -> None:
    subprocess.run(["sh", "-ec", script], env={**os.environ, "P": str(image)}, check=True, capture_output=True)


@pytest.mark.parametrize("name", WITNESSED)
def test_a_consent_ends_with_any_write_to_a_partition(drive: Partitioned, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts need root")
    made, later = WITNESSED[name]
    image = drive.partition()
    run(made, image)
    consent = drive.content
    assert covers(consent, drive.content)

    run(later, image)

    assert not covers(consent, drive.content)


@pytest.mark.parametrize("name", UNWITNESSED)
def test_content_without_a_count_of_writes_is_named(drive: Partitioned, name: str) -> None:
    run(UNWITNESSED[name], drive.partition())

    assert [part.partition(" ")[0] for part in unwitnessed_parts(drive.raw())] == ["p1"]


def test_a_write_to_another_partition_ends_a_consent(drive: Partitioned) -> None:
    first, second = drive.partition(), drive.partition(2, START + LENGTH, 64 * MIB)
    run(EXT4, first)
    run(EXT4, second)
    consent = drive.content

    run(A_FILE, second)

    assert not covers(consent, drive.content)


@pytest.mark.parametrize("name", OF_DRIVE)
def test_a_write_beside_the_partitions_ends_a_consent(drive: Partitioned, name: str) -> None:
    run(EXT4, drive.partition())
    consent = drive.content

    OF_DRIVE[name](drive)

    assert not covers(consent, drive.content)

"""What a consent repeats: it names what is in partitions, and dies with any write that shows."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.facts.content import SEPARATOR, UnknownContent, covers, describe, quote, unwitnessed_parts
from rackwright.facts.probe import block, superblocks
from tests.support.drive_content import luks_format
from tests.support.fabricated_machine import MIB, FabricatedMachine

SIZE, START, LENGTH = 700 * MIB, MIB, 600 * MIB
WRITES = "0 sectors written since "
EXT4 = ("mkfs.ext4", "-q", "-F", "-L")
XFS = ("mkfs.xfs", "-q", "-f", "-L")


class Partitioned:
    """A drive of a fabricated machine with partitions, whose images are kept as parts of the drive's."""

    def __init__(self, directory: Path) -> None:
        self.machine = FabricatedMachine(directory)
        self.image = self.machine.device("sda", SIZE)
        self.machine.write("sys/block/sda/serial", "S1\n")
        self.parts: dict[str, tuple[Path, int, int]] = {}

    def partition(self, number: int = 1, start: int = START, length: int = LENGTH) -> Path:
        if not self.parts:
            table = bytearray(512)
            table[446 + 4], table[510:] = 0x83, b"\x55\xaa"
            table[446 + 8 : 446 + 16] = (start // 512).to_bytes(4, "little") + (length // 512).to_bytes(4, "little")
            self.write(0, bytes(table))
        image = self.machine.partition("sda", f"sda{number}", length, start, number)
        self.parts[f"sda{number}"] = image, start, length
        return image

    def write(self, offset: int, data: bytes) -> None:
        with self.image.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def clear(self, begin: int, end: int) -> None:
        """Clear a range of the drive, in the images of its partitions as well; they go with their table."""
        self.write(begin, bytes(end - begin))
        for name, (image, start, length) in list(self.parts.items()):
            low, high = max(begin, start), min(end, start + length)
            if low < high:
                with image.open("r+b") as file:
                    file.seek(low - start)
                    file.write(bytes(high - low))
            if begin == 0:
                (self.machine.root / "sys/block/sda" / name / "partition").unlink()
                del self.parts[name]

    def raw(self) -> dict[str, Any]:
        machine = block.BlockDevices(self.machine.top)
        return block.drive(machine, "sda")

    @property
    def content(self) -> str:
        return describe(self.raw())


@pytest.fixture
def drive(tmp_path: Path) -> Partitioned:
    return Partitioned(tmp_path)


def make(argv: tuple[str, ...], label: str, image: Path) -> None:
    subprocess.run([*argv, label, image], check=True, capture_output=True)


def write_a_file(image: Path) -> None:
    """Write a file into an ext4 that is not mounted."""
    subprocess.run(["debugfs", "-w", "-R", f"write {__file__} file", image], check=True, capture_output=True)


def test_a_consent_for_a_partitioned_drive_dies_with_another_filesystem_in_it(drive):
    image = drive.partition()
    make(EXT4, "scratch", image)
    consent = drive.content
    make(EXT4, "payroll2027", image)

    found = drive.content

    assert "p1 ext4 " in consent
    assert " scratch " in consent
    assert " payroll2027 " in found
    assert not covers(consent, found)


@pytest.mark.parametrize("whole", [True, False])
def test_a_consent_for_an_ext4_dies_with_a_file_in_it(drive, whole):
    image = drive.image if whole else drive.partition()
    make(EXT4, "scratch", image)
    consent, again = drive.content, drive.content
    write_a_file(image)

    assert consent == again
    assert not covers(consent, drive.content)
    assert not unwitnessed_parts(drive.raw())


def log_of(image: Path) -> int:
    """Return where the log of an XFS begins."""
    raw = superblocks.read_at(str(image), 0, 512)
    block_bytes, group = int.from_bytes(raw[4:8], "big"), int.from_bytes(raw[84:88], "big")
    start, shift = int.from_bytes(raw[48:56], "big"), raw[124]
    return ((start >> shift) * group + (start & ((1 << shift) - 1))) * block_bytes


def test_a_consent_for_an_xfs_dies_with_a_record_in_its_log(drive):
    """
    Its superblock is written when it is unmounted: after a power cut the log alone has the last writes.
    """
    image = drive.partition()
    make(XFS, "scratch", image)
    consent = drive.content
    with image.open("r+b") as file:
        log = log_of(image)
        file.seek(log)
        header = file.read(8)
        assert header[:4] == superblocks.LOG_HEADER.to_bytes(4, "big")
        at = next(
            sector for sector in range(1, 4096) if superblocks.read_at(str(image), log + sector * 512, 4) == b"\0" * 4
        )
        file.seek(log + at * 512)
        file.write(header + b"a transaction".ljust(504, b"\0"))

    assert not covers(consent, drive.content)
    assert not unwitnessed_parts(drive.raw())


def test_what_is_encrypted_shows_no_write_but_in_the_count_of_the_kernel(drive):
    image = drive.partition()
    luks_format(image)
    consent = drive.content
    with image.open("r+b") as file:
        file.seek(300 * MIB + 4096)  # no sample is there
        file.write(b"the only copy")

    assert [*unwitnessed_parts(drive.raw())] == ["p1 crypto_LUKS"]
    assert WRITES in consent
    assert drive.content == consent, "this is why the count of writes is part of it"
    drive.machine.write("sys/block/sda/stat", "8 0 64 0 1 0 66 0 0 0 0\n")
    assert not covers(consent, drive.content)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("proc/sys/kernel/random/boot_id", "another\n"),
        ("sys/block/sda/stat", "0 0 0 0 0 0 0 0 0 0 0\n"),
        ("sys/block/sda/queue/iostats", "0\n"),
    ],
    ids=["another boot", "nothing is counted", "counting is off"],
)
def test_a_count_that_can_miss_a_write_covers_nothing(drive, path, text):
    luks_format(drive.partition())
    consent = drive.content
    drive.machine.write(path, text)

    try:
        assert not covers(consent, drive.content)
    except UnknownContent as reason:
        assert "does not count" in str(reason)


def test_a_table_without_partitions_and_data_without_a_signature_show_no_write(drive):
    drive.write(4096, b"raw")
    assert unwitnessed_parts(drive.raw()) == ["data without a signature"]

    drive.write(0, b"\0" * 4100)
    image = drive.partition()
    with image.open("r+b") as file:
        file.write(b"raw")
    assert unwitnessed_parts(drive.raw()) == ["p1 data without a signature"]


def test_more_partitions_than_a_person_reads_are_unknown(drive):
    for number in range(1, 34):
        drive.partition(number, number * 4 * MIB, 4 * MIB)

    with pytest.raises(UnknownContent, match="33 partitions; the probe reads none of more than 32"):
        drive.content  # noqa: B018


def test_a_wipe_that_is_cut_off_leaves_what_the_consent_covers(drive):
    """
    After each of its writes, in their order; and nothing in the end.
    """
    first, second = drive.partition(), drive.partition(2, START + LENGTH, SIZE - START - LENGTH)
    make(EXT4, "scratch", first)
    luks_format(second)
    places = block.sample_places(SIZE)["data"]
    for place in places:
        drive.write(place, b"data between the ends")
    machine = block.BlockDevices(drive.machine.top)
    ranges, consent = block.erased_ranges(machine, "sda"), drive.content

    for begin, end in ranges:
        drive.clear(begin, end)
        left = drive.raw()
        parts = {part for part in describe(left).split(SEPARATOR) if "sectors written" not in part}
        assert parts <= {*consent.split(SEPARATOR)} | {left.get("erased_data"), ""}

    assert begin == 0, "the partitions are known until everything else is cleared"
    assert all(part.startswith("data ") for part in drive.content.split(SEPARATOR))
    assert block.BlockDevices(drive.machine.top).signatures["sda"] == []


def test_the_sample_between_the_ends_is_predicted_where_a_partition_ends_in_it(drive):
    place = block.sample_places(SIZE)["data"][20] // MIB * MIB
    drive.partition(1, START, place - START)
    drive.partition(2, place, 64 * MIB)
    for at in block.sample_places(SIZE)["data"]:
        drive.write(at, b"data between the ends")
    before = drive.raw()
    for begin, end in block.erased_ranges(block.BlockDevices(drive.machine.top), "sda"):
        drive.clear(begin, end)

    assert before["erased_data"] == drive.content != before["sample"][1]


@given(st.text())
def test_a_label_is_one_word_of_one_part(label):
    word = quote(label)

    assert word.isascii()
    assert word.isprintable()
    assert not {*word} & {*" ,\"'\\{}$"}
    assert len(word) <= 43


def test_a_label_forges_no_part(drive):
    image = drive.partition()
    make(EXT4, "a, data 0", image)

    parts = drive.content.split(SEPARATOR)

    assert not [part for part in parts if part.startswith("data")]
    assert [part for part in parts if " a%2c%20data%200 " in part]


MD = json.loads((Path(__file__).parent / "md_superblocks.json").read_text())


@pytest.mark.parametrize("name", sorted(MD))
def test_a_member_has_a_witness_where_its_array_notes_writes(tmp_path, name):
    """
    One that is redundant and clean; of others, nothing that is written shows.
    """
    report, image = MD[name], tmp_path / "member"
    with image.open("wb") as file:
        file.truncate(report["size"])
        file.seek(report["offset"])
        file.write(bytes.fromhex(report["superblock"]))

    seen = superblocks.md_witness(str(image), report["offset"])

    assert (seen is not None) == ("raid0" not in name and "linear" not in name and clean(report)), report
    if seen:
        dirty = bytearray(bytes.fromhex(report["superblock"]))
        if name.startswith("0.90"):
            dirty[132] &= 0xFE
        else:
            dirty[208:216] = bytes(8)
        with image.open("r+b") as file:
            file.seek(report["offset"])
            file.write(dirty)
        assert superblocks.md_witness(str(image), report["offset"]) is None


def clean(recorded: dict[str, Any]) -> bool:
    raw = bytes.fromhex(recorded["superblock"])
    return bool(raw[132] & 1) if raw[4:8] == b"\0" * 4 else raw[208:216] == b"\xff" * 8

"""The readers of superblocks, against what mkfs and mdadm say they wrote."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rackwright.facts.probe import superblocks
from rackwright.facts.probe.observe import ReadError
from tests.support.drive_content import luks_format, sparse

MD = json.loads((Path(__file__).parent / "md_superblocks.json").read_text())
"""Taken from drives right after ``mdadm --create``; ``examined`` is ``mdadm --examine --export``."""

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
some_uuid = st.uuids(version=4).map(str)


@few
@given(uuid=some_uuid, block=st.sampled_from((1024, 4096)), stride=st.integers(0, 128), disks=st.integers(1, 8))
def test_ext4_is_read_as_mkfs_wrote_it(tmp_path, uuid, block, stride, disks):
    device = sparse(tmp_path / "ext4", 16)
    geometry = ["-E", f"stride={stride},stripe_width={stride * disks}"] if stride else []
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", str(block), "-U", uuid, *geometry, device], check=True)

    assert superblocks.ext4(device) == {
        "uuid": uuid,
        "complete": True,
        "size_bytes": 16 << 20,
        "stripe_unit_bytes": stride * block,
        "stripe_width_bytes": stride * disks * block,
    }


@few
@given(uuid=some_uuid, unit_kib=st.sampled_from((0, 64, 512)), disks=st.integers(1, 8))
def test_xfs_is_read_as_mkfs_wrote_it(tmp_path, uuid, unit_kib, disks):
    device = sparse(tmp_path / "xfs", 2048)
    geometry = ["-d", f"su={unit_kib}k,sw={disks}", "-l", "su=32k"] if unit_kib else []
    subprocess.run(["mkfs.xfs", "-q", "-f", "-m", f"uuid={uuid}", *geometry, device], check=True)

    report = superblocks.xfs(device)
    assert report.pop("log_bytes") >= 10 << 20
    assert 0 <= (2 << 30) - report.pop("size_bytes") < 16 << 20, "no allocation group is smaller"
    assert report == {
        "uuid": uuid,
        "complete": True,
        "stripe_unit_bytes": unit_kib << 10,
        "stripe_width_bytes": (unit_kib << 10) * disks,
    }


def test_an_xfs_whose_making_was_cut_off_is_not_complete(tmp_path):
    device = sparse(tmp_path / "xfs", 512)
    subprocess.run(["mkfs.xfs", "-q", "-f", device], check=True)
    subprocess.run(["xfs_db", "-x", "-c", "sb 0", "-c", "write -d inprogress 1", device], check=True)

    assert superblocks.xfs(device)["complete"] is False


@pytest.mark.parametrize("kind", MD)
def test_md_is_read_as_mdadm_reads_it(tmp_path, kind):
    recorded = MD[kind]
    device = tmp_path / "member"
    with device.open("wb") as file:
        file.truncate(recorded["size"])
        file.seek(recorded["offset"])
        file.write(bytes.fromhex(recorded["superblock"]))
    examined = dict(re.findall(r"MD_(\w+)=(.*)", recorded["examined"]))

    assert superblocks.md_member(str(device), kind.split()[0]) == {
        "array_uuid": examined["UUID"],
        "array_name": examined.get("NAME", ""),
        "level": examined["LEVEL"],
        "devices": int(examined["DEVICES"]),
        "events": int(examined["EVENTS"]),
        # `mdadm --examine` says 4096 sectors of small arrays whose superblock is in front of the data
        "data_offset_bytes": 2 << 20 if kind.split()[0] in ("1.1", "1.2") else 0,
    }


@pytest.mark.parametrize(
    "reader", [superblocks.ext4, superblocks.xfs, lambda path: superblocks.md(path, 4096)], ids=["ext4", "xfs", "md"]
)
@pytest.mark.parametrize("content", [b"", b"\xff" * 8192], ids=["empty", "noise"])
def test_a_missing_superblock_is_reported(tmp_path, reader, content):
    device = tmp_path / "device"
    device.write_bytes(content)

    with pytest.raises(ReadError, match=r"no .* superblock"):
        reader(str(device))


@given(st.integers(1 << 11, 1 << 35))
def test_a_superblock_at_the_end_lies_where_md4_says(sectors):
    """
    1.0: on 4 KiB, 8 to 12 KiB before the end; 0.90: on 64 KiB, 64 to 128 KiB before the end.
    """
    for metadata, step, near, far in (("1.0", 4096, 8192, 12288), ("0.90", 65536, 65536, 131072)):
        offset = superblocks.md_offset(metadata, sectors * 512)

        assert offset % step == 0
        assert near <= sectors * 512 - offset < far


def test_metadata_of_firmware_is_not_guessed_at():
    with pytest.raises(ReadError, match="external:imsm"):
        superblocks.md_offset("external:imsm", 1 << 30)


def test_a_luks_header_is_read_as_cryptsetup_wrote_it(tmp_path):
    """
    With what changes in it, and with nothing by which a key could be found.
    """
    path, key = tmp_path / "luks", tmp_path / "key"
    sparse(path, 32)
    luks_format(path)
    dump = subprocess.run(["cryptsetup", "luksDump", path], capture_output=True, text=True, check=True).stdout
    before = superblocks.luks(str(path))
    key.write_text("second")
    cheap = ["--pbkdf-memory=32", "--pbkdf-force-iterations=4"]
    argv = ["cryptsetup", "luksAddKey", "--batch-mode", "--key-file=-", *cheap, path, key]
    subprocess.run(argv, input=b"first", check=True)

    assert before == {
        "uuid": re.findall(r"^UUID:\s+(\S+)", dump, re.M)[0],
        "version": 2,
        "sequence": int(re.findall(r"^Epoch:\s+(\d+)", dump, re.M)[0]),
        "key_slots": 1,
        "data_offset_bytes": int(re.findall(r"offset: (\d+) \[bytes\]", dump)[0]),
    }
    assert superblocks.luks(str(path)) == {**before, "sequence": before["sequence"] + 1, "key_slots": 2}
    with pytest.raises(ReadError, match="has no LUKS header"):
        superblocks.luks(str(key))

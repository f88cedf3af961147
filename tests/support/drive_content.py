"""Superblocks, LUKS headers and health pages, as drives carry them."""

import json
import subprocess
from pathlib import Path


def sparse(path: Path, mib: int) -> str:
    with path.open("wb") as file:
        file.truncate(mib << 20)
    return str(path)


def luks_format(path: Path) -> None:
    """Encrypt a file; its key is the word first."""
    cheap = ["--pbkdf-memory=32", "--pbkdf-force-iterations=4"]
    argv = ["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--key-file=-", *cheap, path]
    subprocess.run(argv, input=b"first", check=True)


ACTIVE = {
    "level": "raid10",
    "raid_disks": "4",
    "chunk_size": "524288",
    "metadata_version": "1.2",
    "component_size": "497152",
    "array_size": "default",
    "array_state": "clean",
    "bitmap/location": "+8",
    "consistency_policy": "bitmap",
    "sync_action": "idle",
    "sync_completed": "none",
    "sync_speed": "none",
    "sync_speed_max": "200000 (system)",
    "sync_min": "0",
    "sync_max": "max",
    "degraded": "0",
    "last_sync_action": "check",
    "mismatch_cnt": "0",
}
MEMBER = json.loads((Path(__file__).parents[1] / "facts" / "md_superblocks.json").read_text())["1.0 raid1"]
"""The superblock at the end of a member whose start looks like what its array carries."""


def member_of_version_1_0(image: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", image, "64M"], check=True)
    with image.open("r+b") as file:
        file.seek(MEMBER["offset"])
        file.write(bytes.fromhex(MEMBER["superblock"]))


def page_80(serial: bytes) -> bytes:
    return bytes([0, 0x80, 0, len(serial)]) + serial

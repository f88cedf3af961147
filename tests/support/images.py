"""Digests of the disk images of a twin."""

import errno
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from rackwright.twin import faults
from tests.support.lab import Lab
from tests.support.tiers import Place

BLOCK_BYTES = 1 << 16
Drive = tuple[str, str]
"""Host name and serial number."""


def sums(lab: Lab, everywhere: list[Place]) -> dict[Drive, str]:
    """Return a digest of each member's image, read while its host is paused."""
    digests = {}
    for host in {place.host: None for place in everywhere}:
        lab.ssh(host, "sync; udevadm settle")
        with faults.pause_processor(lab.twin, host):
            for serial in (serial for place in everywhere if place.host == host for serial in place.serials):
                digests[host, serial] = digest(lab.twin.layout.disk(host, serial))
    return digests


def digest(image: Path) -> str:
    """Return a digest of an image's content. Holes of the file, which are blocks of zeros, are not read."""
    content, place, zeros = hashlib.sha256(), 0, bytes(BLOCK_BYTES)
    with image.open("rb") as file:
        while (start := _data(file, place)) is not None:
            place = start // BLOCK_BYTES * BLOCK_BYTES
            file.seek(place)
            block = file.read(BLOCK_BYTES)
            if block != zeros[: len(block)]:
                content.update(place.to_bytes(8, "big") + block)
            place += BLOCK_BYTES
    return content.hexdigest()


def _data(file: BinaryIO, start: int) -> int | None:
    """Return the position of the next data of a sparse file, None if there is no more."""
    try:
        return os.lseek(file.fileno(), start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise

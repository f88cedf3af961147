"""One read-only look at this host, printed as one line: JSON, compressed, in base64."""

from __future__ import annotations

import binascii
import json
import sys
import time
import zlib
from typing import Any

from rackwright.facts.digest import salt_id
from rackwright.facts.probe import block, system, units
from rackwright.facts.probe.look import attempt, known


def main(job: dict[str, Any]) -> None:
    facts = {"format": job["format"], **collect("", bytes.fromhex(job["salt"]))}
    line = binascii.b2a_base64(zlib.compress(json.dumps(facts, separators=(",", ":")).encode(), 1))
    sys.stdout.buffer.write(line)


def collect(root: str, salt: bytes) -> dict[str, Any]:
    """Return all facts of the system whose files lie below *root* (empty: this one)."""
    machine = attempt(block.Machine, root)
    return {
        "taken_at": time.time(),
        "salt_id": salt_id(salt),
        "covers": {"files": system.FILE_ROOTS, "texts": system.TEXTS},
        "identity": attempt(system.identity, root),
        "os": attempt(system.release, root),
        "hardware": attempt(system.hardware, root),
        "drives": attempt(lambda: block.drives(known(machine))),
        "arrays": attempt(lambda: block.arrays(known(machine))),
        "filesystems": attempt(lambda: block.filesystems(known(machine))),
        "mounts": attempt(lambda: known(machine).mounts),
        "links": attempt(system.links, root),
        "units": attempt(units.units, root),
        "packages": attempt(system.packages, root),
        "files": attempt(system.files, root, salt),
        "texts": attempt(system.texts, root),
        "owners": attempt(system.owners, root),
        "initramfs": attempt(system.initramfs, root),
    }

"""A report of an erasure, its certificate, and keys that sign it."""

import subprocess
from pathlib import Path
from typing import Any

from rackwright.erase.certificate import ErasureCertificate

REPORT: dict[str, Any] = {
    "size_bytes": 512_000_000,
    "command": "one pass of zeros over 512000000 bytes, O_DIRECT",
    "tool": "Python 3.11.2",
    "kernel": "Linux 6.1.0-40-amd64",
    "started_at": "2026-11-26T14:00:00+00:00",
    "ended_at": "2026-11-26T14:01:00+00:00",
    "verification": {
        "bytes_read": 512_000_000,
        "block_bytes": 4096,
        "blocks_with_content": 0,
        "first_content_at": None,
        "ended_at": "2026-11-26T14:02:00+00:00",
    },
}
"""Report of a host about an erased drive."""


def certificate() -> ErasureCertificate:
    content = {**REPORT, "verification": {**REPORT["verification"]}}
    del content["verification"]["first_content_at"]
    drive = {"serial": "E-1", "model": "QEMU HARDDISK", "bus": "sas", "held": "ext4 3f2a", "method": "overwrite"}
    return ErasureCertificate.model_validate(
        {
            "rackwright": "0.1.0",
            "fleet": "rack",
            "stack": "lab",
            "host": "gpu-01",
            "by": "ada@desk",
            "identity": {"serial": "RW-GPU-01"},
            "drives": [{**drive, "nist": {"document": "SP 800-88 Rev. 1", "term": "clear"}, **content}],
        }
    )


def new_key(path: Path) -> str:
    """Make a key without a passphrase, and return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()

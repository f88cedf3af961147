"""Keys of tiers that are sealed: whether this machine opens them, and the digest of what is in them."""

from __future__ import annotations

import base64
import os
from typing import Any

from rackwright.facts.digest import digest
from rackwright.facts.probe.observe import (
    Failed,
    ReadError,
    attempt,
    listing,
    number,
    read,
    tool,
    unknown,
)

FOLDER = "/etc/rackwright/tiers"
TPM = "/sys/class/tpm/tpm0/tpm_version_major"
BY_TPM2 = "0c7cc07b117645919c4b0bea08bc20fe"
"""What a credential begins with that a TPM 2.0 alone has sealed. Source: systemd, src/shared/creds-util.h."""


def tpm(root: str) -> int | None:
    """Return the version of the TPM: 2, 1, or None where there is none."""
    return number(root + TPM) if os.path.exists(root + TPM) else None


def credentials(root: str, salt: bytes) -> dict[str, Any]:
    """Return the sealed keys by their paths. To have one opened leaves nothing behind, in the TPM or elsewhere."""
    names = listing(root + FOLDER, "*.cred")
    return {f"{FOLDER}/{name}": attempt(credential, root + FOLDER, name, salt) for name in names}


def credential(folder: str, name: str, salt: bytes) -> dict[str, Any]:
    if os.geteuid() != 0:
        raise ReadError("only root has it opened")
    kind = base64.b64decode(read(f"{folder}/{name}"))[:16].hex()
    opens: Any = True
    try:
        content = tool("systemd-creds", "decrypt", f"--name={name}", f"{folder}/{name}", "-")
        shown: Any = digest(content.encode(errors="surrogateescape"), salt)
        if not content:
            opens = shown = unknown("systemd-creds ended well, and printed nothing")
    except Failed as reason:
        opens, shown = False, unknown(str(reason))
    except ReadError as reason:
        opens = shown = unknown(str(reason))
    return {"sealed_by": "tpm2" if kind == BY_TPM2 else "other", "opens": opens, "digest": shown}

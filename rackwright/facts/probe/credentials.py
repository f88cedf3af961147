"""Sealed keys of tiers: whether this machine opens them, and their digests."""

from __future__ import annotations

import base64
import os
from typing import Any

from rackwright.facts.digest import digest
from rackwright.facts.probe.observe import (
    CommandFailed,
    ReadError,
    attempt,
    listing,
    number,
    read,
    run_tool,
    unknown_value,
)

FOLDER = "/etc/rackwright/tiers"
TPM = "/sys/class/tpm/tpm0/tpm_version_major"
BY_TPM2 = "0c7cc07b117645919c4b0bea08bc20fe"
"""First bytes of a credential that a TPM 2.0 alone has sealed. Source: systemd, src/shared/creds-util.h."""


def tpm(root: str) -> int | None:
    """Return the version of the TPM, 2 or 1; None without a TPM."""
    return number(root + TPM) if os.path.exists(root + TPM) else None


def credentials(root: str, salt: bytes) -> dict[str, Any]:
    """Return the sealed keys by path; the attempt to open them leaves no trace in the TPM or elsewhere."""
    names = listing(root + FOLDER, "*.cred")
    return {f"{FOLDER}/{name}": attempt(credential, root + FOLDER, name, salt) for name in names}


def credential(folder: str, name: str, salt: bytes) -> dict[str, Any]:
    if os.geteuid() != 0:
        raise ReadError("only root can open it")
    kind = base64.b64decode(read(f"{folder}/{name}"))[:16].hex()
    opens: Any = True
    try:
        content = run_tool("systemd-creds", "decrypt", f"--name={name}", f"{folder}/{name}", "-")
        digest_or_reason: Any = digest(content.encode(errors="surrogateescape"), salt)
        if not content:
            opens = digest_or_reason = unknown_value("systemd-creds ended with 0 and printed nothing")
    except CommandFailed as reason:
        opens, digest_or_reason = False, unknown_value(str(reason))
    except ReadError as reason:
        opens = digest_or_reason = unknown_value(str(reason))
    return {"sealed_by": "tpm2" if kind == BY_TPM2 else "other", "opens": opens, "digest": digest_or_reason}

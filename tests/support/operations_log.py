"""Operations logs for tests: one in memory, and one in a directory with a key of its own."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from rackwright.log.keys import VARIABLE
from rackwright.log.operation import Operation, record
from rackwright.log.writer import OperationsLog

Entries = list[dict[str, Any]]


def in_memory(entries: Entries | None = None) -> Callable[..., AbstractContextManager[Operation]]:
    """Return the recorder of a site; it appends to *entries*."""
    kept = entries if entries is not None else []

    def append(event: str, fields: Mapping[str, Any]) -> None:
        kept.append({"event": event, **fields})

    def recorder(
        change: str, host: str, resource: str, redact: Callable[[str], str]
    ) -> AbstractContextManager[Operation]:
        return record(append, change, stack="lab", hosts=[host], resource=resource, redact=redact, every_attempt=True)

    return recorder


def new_key(path: Path) -> Path:
    """Write a private key to *path* and its public one beside it, and return *path*."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    path.with_name(f"{path.name}.pub").write_bytes(
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    )
    return path


def log_with_key(directory: Path, key: Path) -> OperationsLog:
    """Return the log in *directory*, signed with *key*."""
    return OperationsLog(directory, None, {VARIABLE: str(key)})

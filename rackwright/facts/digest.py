"""The keyed digest of file contents; without the key, a short secret cannot be guessed from a snapshot."""

import hashlib

CHAIN_HASH_LETTERS = 32
"""Letters of a hash of the audit log's chain in facts: 128 bits."""


def digest(content: bytes, salt: bytes) -> str:
    """Return 32 hex digits for *content*.

    Args:
        content: The whole file.
        salt: The fleet's secret key, 1 to 32 bytes.
    """
    return hashlib.blake2s(content, key=salt, digest_size=16).hexdigest()


def salt_id(salt: bytes) -> str:
    """Return an identifier of *salt*: it shows which salt made the digests of a snapshot and reveals nothing else."""
    return digest(b"the name of this salt", salt)[:8]

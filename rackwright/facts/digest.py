"""The one digest for contents of files: keyed, so that a short secret in a file cannot be guessed from a snapshot."""

import hashlib


def digest(content: bytes, salt: bytes) -> str:
    """Return 32 hex digits for *content*.

    Args:
        content: The whole file.
        salt: The fleet's secret key, 1 to 32 bytes.
    """
    return hashlib.blake2s(content, key=salt, digest_size=16).hexdigest()


def salt_id(salt: bytes) -> str:
    """Return a name for *salt*: says with which one a snapshot's digests were made, and nothing else about it."""
    return digest(b"the name of this salt", salt)[:8]

"""The bytes that a signature in OpenSSH's format SSHSIG covers: content and the purpose of its key."""

import hashlib
import struct

MAGIC = b"SSHSIG"


def signed_bytes(content: bytes, namespace: str) -> bytes:
    """Return the bytes that a signature of *content* covers.

    Args:
        namespace: Purpose of the signature; a signature for another purpose does not pass.

    Source: OpenSSH, PROTOCOL.sshsig, section 2.
    """
    fields = (namespace.encode(), b"", b"sha512", hashlib.sha512(content).digest())
    return MAGIC + b"".join(map(ssh_string, fields))


def ssh_string(content: bytes) -> bytes:
    """Return *content* after its length, as SSH encodes it."""
    return struct.pack(">I", len(content)) + content

"""A list of revoked keys and certificates in OpenSSH's binary format; equal declarations give equal bytes.

Source: OpenSSH's PROTOCOL.krl.
"""

import base64
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

MAGIC = b"SSHKRL\n\0"
FORMAT = 1
CERTIFICATES, KEYS = 1, 2
"""Section types of the file."""
SERIALS = 0x20
"""The type of a subsection of serials in a section about certificates."""


def krl(revoked: Sequence[str | Mapping[str, object]], comment: str) -> bytes:
    """Return the list, without version and date: only *revoked* and *comment* determine the bytes.

    Args:
        revoked: Public keys, and certificates as ``serial`` and ``ca``; without ``ca``, of any authority.
    """
    keys = {_blob(item) for item in revoked if isinstance(item, str)}
    serials = defaultdict[bytes, set[int]](set)
    for item in revoked:
        if not isinstance(item, str):
            serials[_blob(str(item["ca"])) if item.get("ca") else b""].add(int(str(item["serial"])))
    parts = [MAGIC, struct.pack(">IQQQ", FORMAT, 0, 0, 0), _string(b""), _string(comment.encode())]
    parts += [_section(CERTIFICATES, _certificates(ca, serials[ca])) for ca in sorted(serials)]
    parts += [_section(KEYS, b"".join(map(_string, sorted(keys))))] if keys else []
    return b"".join(parts)


def _certificates(ca: bytes, serials: Iterable[int]) -> bytes:
    data = b"".join(struct.pack(">Q", serial) for serial in sorted(serials))
    return _string(ca) + _string(b"") + _section(SERIALS, data)


def _blob(line: str) -> bytes:
    """Return the wire format of the public key in *line*."""
    return base64.b64decode(line.split()[1])


def _section(sort: int, data: bytes) -> bytes:
    return bytes([sort]) + _string(data)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data

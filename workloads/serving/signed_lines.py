"""Signatures of the lines between two hosts of a replica, so that no line counts that another host sent or repeated.

Both sides begin with a nonce. Each later line ends with an HMAC-SHA256 over its sender's part, both nonces, the number
of the line and the line itself. A recorded line is therefore of no use in another connection, at another place or in
the other direction.

leader: 5f…        worker: a0…        worker: {"rank": 1, …} HMAC        leader: . HMAC
"""

import hmac
import re
import secrets
from pathlib import Path
from typing import Literal

from workloads.errors import Diagnostic, UserError

NONCE = re.compile(rb"[0-9a-f]{32}")
SHORTEST_KEY = 32
"""Characters of the shortest key."""
Part = Literal["leader", "worker"]


class UnsignedLine(OSError):
    """A line without the signature that it needs."""


def read_key(path: Path) -> bytes:
    """Return the key in the file *path*.

    Raises:
        UserError: the file cannot be read, or its key is too short.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        problem, expected = f"the key of the leases cannot be read: {error.strerror}", "the key of the replica"
        raise UserError(Diagnostic(str(path), problem, expected, "Run `rackwright up` again")) from None
    if len(key) < SHORTEST_KEY:
        problem, help = f"the key of the leases has {len(key)} characters", "Write the same random key on all hosts"
        raise UserError(Diagnostic(str(path), problem, f"at least {SHORTEST_KEY} characters", help))
    return key


class SignedLines:
    """The signatures of one connection, as one side makes and checks them."""

    def __init__(self, key: bytes, part: Part) -> None:
        self._key, self._part = key, part
        self.nonce = secrets.token_hex(16).encode()
        self._other_nonce: bytes | None = None
        self._sent, self._received = 0, 0

    @property
    def is_ready(self) -> bool:
        """Whether the nonce of the other side is there, so that lines can be signed."""
        return self._other_nonce is not None

    def sign(self, line: bytes) -> bytes:
        """Return the next *line* of this side, with its signature."""
        signature = self._signature(self._part, self._sent, line)
        self._sent += 1
        return line + b" " + signature

    def verify(self, line: bytes) -> bytes | None:
        """Return the next line of the other side without its signature; None for its nonce.

        Raises:
            UnsignedLine: the line has not the signature of this place in the connection.
        """
        if self._other_nonce is None:
            if not NONCE.fullmatch(line) or line == self.nonce:
                raise UnsignedLine("the other side sends no nonce")
            self._other_nonce = line
            return None
        content, _, signature = line.rpartition(b" ")
        other: Part = "worker" if self._part == "leader" else "leader"
        if not hmac.compare_digest(signature, self._signature(other, self._received, content)):
            raise UnsignedLine("a line is not signed with the key of the replica")
        self._received += 1
        return content

    def _signature(self, part: Part, number: int, line: bytes) -> bytes:
        assert self._other_nonce is not None, "the other side's nonce comes first"
        nonces = (self.nonce, self._other_nonce) if self._part == "leader" else (self._other_nonce, self.nonce)
        head = b"|".join((part.encode(), *nonces, str(number).encode(), b""))
        return hmac.digest(self._key, head + line, "sha256").hex().encode()

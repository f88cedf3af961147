"""The chain of verdicts that the monitoring host signs: its lines, and the check of their signatures and order."""

import base64
import hashlib
import json
import re
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from rackwright.core.sshsig import signed_bytes
from rackwright.foreign import InvalidData, parse_object

FORMAT = 1
"""Version of the form of verdicts."""
NAMESPACE = "rackwright-verdict"
"""Purpose of the signatures, so that the key signs no entry of the operations log and no login."""
NO_HASH = "0" * 64
"""The previous hash of the first verdict."""
LINE_BYTES, DEPTH = 8192, 3
CHAIN_BYTES = 4 << 20
CAUSES: Mapping[str, str] = {
    "GpuLost": "a GPU is lost",
    "GpuMemoryError": "a GPU has uncorrectable memory errors",
    "DriveFailing": "a drive is failing",
    "HostNotReached": "the host is not reached",
}
"""Alerts that put a host into quarantine, each with the text for reports."""
TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
FORMS: Mapping[str, re.Pattern[str]] = {
    "receiver": re.compile(r"[a-z0-9-]{1,63}"),
    "previous": re.compile(r"[0-9a-f]{64}"),
    "time": TIME,
    "event": re.compile("began|ended"),
    "host": re.compile(r"[a-z0-9-]{1,63}"),
    "cause": re.compile("|".join((*CAUSES, ""))),
    "detail": re.compile(r"[0-9A-Za-z /:.,_-]{0,100}"),
    "reason": re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{0,500}"),
}
"""Forms of the texts of a verdict; a host chooses the labels that become its detail."""
Sort = Literal["form", "signature", "receiver", "order", "shortened", "replaced"]
SORTS: Mapping[Sort, str] = {
    "form": "the line has not the form of a verdict",
    "signature": "the key of the receiver has not signed the line",
    "receiver": "the line is of another monitoring host",
    "order": "the line does not continue the one before it",
    "shortened": "verdicts that were read before are missing at the end",
    "replaced": "other verdicts stand in the place of those that were read before",
}
"""Meaning of each sort of a broken chain."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The begin of a quarantine of a host for one cause, or the end of its quarantine."""

    receiver: str
    """Monitoring host that signed it."""
    number: int
    """Number in the chain, from 0."""
    previous: str
    """SHA-256 of the verdict before; zeros for the first one."""
    time: str
    """Time in UTC, by the clock of the monitoring host."""
    event: Literal["began", "ended"]
    """`ended` ends all causes of the host."""
    host: str
    """Host that the verdict is about."""
    cause: str = ""
    """Alert that was its cause; empty for the end."""
    detail: str = ""
    """GPU or drive of the alert; empty if it is about the whole host."""
    reason: str = ""
    """Reason of the end, in words of the operator; empty for a begin."""
    format: int = FORMAT
    """Version of the form."""

    @property
    def content(self) -> bytes:
        """The bytes that are signed, and whose SHA-256 the next verdict has."""
        return canonical(asdict(self))

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def text(self) -> str:
        """The cause and its GPU or drive in words."""
        return f"{CAUSES[self.cause]}{f' ({self.detail})' if self.detail else ''}"


@dataclass(frozen=True, slots=True)
class Break:
    """The first place at which a chain is not whole."""

    sort: Sort
    line: int
    """Number of the line, from 1."""

    def __str__(self) -> str:
        return f"line {self.line}: {SORTS[self.sort]}"


def canonical(data: Mapping[str, Any]) -> bytes:
    """Return *data* as JSON in the one form that is signed."""
    return json.dumps(data, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode()


def format_line(verdict: Verdict, signature: bytes) -> bytes:
    """Return the line of a verdict, with its line break."""
    return canonical({"signature": base64.b64encode(signature).decode(), "verdict": asdict(verdict)}) + b"\n"


def check(content: bytes, key: bytes | None, receiver: str, earlier: bytes = b"") -> tuple[Verdict, ...] | Break:
    """Return the verdicts of a chain, or the first place at which it is not whole.

    An incomplete last line is one that is being written, and is left out.

    Args:
        content: The chain as read.
        key: Public key of the receiver, 32 bytes; None leaves the signatures unchecked.
        receiver: Monitoring host whose chain it is.
        earlier: The chain as it was read before, from which this one has to go on.
    """
    found = _verdicts(content, receiver, key)
    if isinstance(found, Break):
        return found
    whole = complete(content)
    if not whole.startswith(earlier):
        count = len(whole.splitlines())
        return Break("shortened" if earlier.startswith(whole) else "replaced", count + 1)
    return found


def complete(content: bytes) -> bytes:
    """Return the complete lines of *content*."""
    return content[: content.rfind(b"\n") + 1]


def _verdicts(content: bytes, receiver: str, key: bytes | None) -> tuple[Verdict, ...] | Break:
    verdicts: list[Verdict] = []
    previous = NO_HASH
    for number, line in enumerate(complete(content).split(b"\n")[:-1]):
        parsed = parse_line(line)
        if parsed is None:
            return Break("form", number + 1)
        verdict, signature = parsed
        if key is not None and not _verifies(key, verdict.content, signature):
            return Break("signature", number + 1)
        if verdict.receiver != receiver:
            return Break("receiver", number + 1)
        if (verdict.number, verdict.previous) != (number, previous):
            return Break("order", number + 1)
        verdicts.append(verdict)
        previous = verdict.hash
    return tuple(verdicts)


def parse_line(line: bytes) -> tuple[Verdict, bytes] | None:
    """Return the verdict of a line and its signature; None for any other line, also one of other spelling."""
    try:
        raw = parse_object(line, LINE_BYTES, DEPTH)
        signature = base64.b64decode(raw.get("signature") or "", validate=True)
    except (InvalidData, Base64Error, ValueError, TypeError):
        return None
    data = raw.get("verdict")
    if not isinstance(data, Mapping) or data.keys() != {field.name for field in fields(Verdict)}:
        return None
    numbers = (data["format"], data["number"])
    if any(type(number) is not int for number in numbers) or data["format"] != FORMAT:
        return None
    if not all(isinstance(data[name], str) and form.fullmatch(data[name]) for name, form in FORMS.items()):
        return None
    verdict = Verdict(**data)
    if (verdict.event == "began") != bool(verdict.cause) or format_line(verdict, signature) != line + b"\n":
        return None
    return verdict, signature


def _verifies(key: bytes, content: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed_bytes(content, NAMESPACE))
    except (InvalidSignature, ValueError):
        return False
    return True

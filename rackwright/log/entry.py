"""One entry of the operations log: its fields, its canonical form, and its line in the file."""

import hashlib
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.facts.log_chain import HostHead
from rackwright.foreign import parse_object
from rackwright.log.keys import SIGNATURE_BYTES, Signer

FORMAT = 1
"""Version of the form of entries."""
NO_HASH = "0" * 64
"""The previous hash of the first entry."""
Event = Literal["log_started", "began", "ended", "key_added", "key_revoked", "recovered", "host_accepted"]
Outcome = Literal["done", "unchanged", "refused", "unreachable", "cancelled", "failed"]


class Actor(TypedDict):
    """The person and the program behind an entry, as the computer reports them."""

    account: str
    """Account of the process."""
    login: str | None
    """Account of the login session, which sudo and su do not change; null if the kernel does not record it."""
    computer: str
    """Name of the computer."""
    source: str | None
    """Address from which the session connected by SSH; null for a local session."""
    program: str
    """Version of rackwright."""


class PlannedChange(TypedDict):
    """A change of one resource, as planned."""

    host: str
    """Host of the resource; empty for a change of files of this computer."""
    resource: str
    """Name of the resource, file or drive."""
    change: str
    """Sort of change, such as `create`, `update` or `delete`."""
    steps: Sequence[str]
    """Steps in their order, without secrets."""
    destroys: Sequence[str]
    """Data that the steps destroy."""


class CompletedChange(TypedDict):
    """The result of a planned change."""

    host: str
    """Host of the resource; empty for a change of files of this computer."""
    resource: str
    """Name of the resource, file or drive."""
    outcome: str
    """Result, such as `done`, `refused` or `failed`."""
    steps_done: int | None
    """Number of steps that were completed; null for a command, whose steps the provider counts."""


class EntryData(TypedDict, total=False):
    """An entry. Which keys it has depends on its event."""

    format: int
    """Version of the form of entries."""
    log: str
    """Identifier of the log, chosen at random for its first entry."""
    sequence: int
    """Number of the entry, from 0."""
    previous: str
    """SHA-256 of the entry before; zeros for the first one."""
    time: str
    """Time of the entry in UTC, from the clock of the computer."""
    actor: Actor
    """The person and the program behind the entry."""
    event: Event
    """Sort of the entry: `began` stands before a change, `ended` after it."""
    operation: str
    """Identifier that the entries `began` and `ended` of one operation share."""
    parent: str | None
    """Identifier of the operation that started this one; null without one."""
    command: str
    """Command of rackwright without `rackwright`, or the operation on a resource: `create`, `update` or `delete`."""
    stack: str
    """Name of the stack; empty for a command that needs none."""
    arguments: Mapping[str, str]
    """Arguments of the command that are no names of hosts."""
    hosts: Sequence[str]
    """Hosts that the operation concerns."""
    resource: str
    """Name of the resource that the provider changes; empty for a command."""
    digests: Mapping[str, str]
    """SHA-256 of the declaration, of the lock and of the code, and the commit of the code."""
    planned: Sequence[PlannedChange]
    """Changes before the operation."""
    completed: Sequence[CompletedChange]
    """Results after the operation."""
    outcome: Outcome
    """Result of the whole operation."""
    exit_status: int
    """Exit status of the command."""
    host_heads: Mapping[str, HostHead]
    """Newest entry in the chain of each host's audit log that continues the entry which earlier audits saw."""
    error: str
    """Error that ended the operation."""
    key: str
    """Public key that the entry adds, or the fingerprint of the key that it revokes."""
    reason: str
    """Reason of a revocation, or of the acceptance of other chains of hosts, in words of the operator."""
    replaces: Mapping[str, str | int]
    """File, digest and size of the log before, for the first entry of a log that takes its place."""
    fragment: Mapping[str, str | int]
    """Start, digest and size of an incomplete last line that a killed writer left, and that this entry replaces."""


@dataclass(frozen=True)
class Line:
    """A line of the file: an entry with its hash and its signature."""

    data: EntryData
    hash: str
    """SHA-256 of the canonical form of the entry."""
    key: str
    """Fingerprint of the key that signed."""
    signature: bytes
    """Ed25519 signature of the head that the entry makes."""

    @property
    def sequence(self) -> int:
        return self.data["sequence"]

    @property
    def event(self) -> Event:
        return self.data["event"]

    @property
    def head(self) -> bytes:
        """The signed content: the log's identifier, the number of its last entry and the hash of that."""
        return head_content(self.data["log"], self.sequence, self.hash)

    def encode(self) -> bytes:
        """Return the line as it stands in the file, with its line break."""
        whole = {"entry": self.data, "hash": self.hash, "key": self.key, "signature": encode_signature(self.signature)}
        return canonical(whole) + b"\n"


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of *value*: sorted keys, no blanks, ASCII characters, and whole numbers only.

    Raises:
        TypeError: A value has no canonical form.
    """
    _refuse_fractions(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def head_content(log: str, sequence: int, hash: str) -> bytes:
    """Return the content that a signature covers."""
    return canonical({"log": log, "sequence": sequence, "hash": hash})


def sign(data: EntryData, signer: Signer) -> Line:
    """Return the line of *data*, signed by *signer*."""
    hash = hashlib.sha256(canonical(data)).hexdigest()
    signature = signer.sign(head_content(data["log"], data["sequence"], hash))
    return Line(data, hash, signer.key.fingerprint, signature)


LINE_BYTES = 4 << 20
"""Maximum length of a line; an entry has up to some 100 KiB."""


def parse_line(text: bytes) -> Line | None:
    """Return the line that *text*, without its line break, holds; None if it is not in canonical form.

    Neither the hash nor the signature is checked.
    """
    try:
        whole = parse_object(text, LINE_BYTES)
        data, signature = whole["entry"], decode_signature(whole["signature"])
        line = Line(data, str(whole["hash"]), str(whole["key"]), signature)
        typed = isinstance(data["log"], str) and isinstance(data["event"], str) and type(data["sequence"]) is int
        return line if typed and isinstance(data["previous"], str) and line.encode() == text + b"\n" else None
    except (ValueError, TypeError, KeyError):
        return None


def encode_signature(signature: bytes) -> str:
    return b64encode(signature).decode("ascii")


def decode_signature(text: object) -> bytes:
    """Return the signature that *text* encodes.

    Raises:
        ValueError: The text is no signature, or another text would encode the same one.
    """
    try:
        signature = b64decode(str(text), validate=True)
    except Base64Error as error:
        raise ValueError(str(error)) from None
    if len(signature) != SIGNATURE_BYTES or encode_signature(signature) != text:
        raise ValueError("no canonical signature")
    return signature


def _refuse_fractions(value: object) -> None:
    """Raise TypeError for a number that programs write in different ways, and for a key that is no text."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is no text")
            _refuse_fractions(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _refuse_fractions(each)
    elif not (value is None or isinstance(value, str | int)):
        raise TypeError(f"{value!r} has no canonical form")

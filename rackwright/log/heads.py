"""Heads of the log, and their comparison with copies at a second place.

A head is the number and the hash of the last entry, with the signature of that entry. It names nothing else.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rackwright.foreign import parse_object
from rackwright.log.chain import Break, Chain
from rackwright.log.entry import Line, canonical, decode_signature, encode_signature, head_content
from rackwright.log.keys import PublicKey

LINE_BYTES = 4096
"""Maximum length of a line with a head."""


@dataclass(frozen=True)
class Head:
    """The head of a log after one of its entries."""

    log: str
    sequence: int
    hash: str
    key: str
    """Fingerprint of the key that signed."""
    signature: bytes

    @staticmethod
    def of(line: Line) -> "Head":
        return Head(line.data["log"], line.sequence, line.hash, line.key, line.signature)

    @staticmethod
    def parse(text: bytes) -> "Head | None":
        """Return the head in a line of a second place; None if it is not in canonical form."""
        try:
            data = parse_object(text, LINE_BYTES)
            signature = decode_signature(data["signature"])
            head = Head(str(data["log"]), data["sequence"], str(data["hash"]), str(data["key"]), signature)
            return head if type(head.sequence) is int and head.encode() == text + b"\n" else None
        except (ValueError, TypeError, KeyError):
            return None

    def is_signed_by(self, keys: Mapping[str, PublicKey]) -> bool:
        """Return whether one of *keys*, by fingerprint, has signed the head."""
        key = keys.get(self.key)
        return key is not None and key.verifies(head_content(self.log, self.sequence, self.hash), self.signature)

    def encode(self) -> bytes:
        """Return the line at the second place, with its line break."""
        signature = encode_signature(self.signature)
        data = {"log": self.log, "sequence": self.sequence, "hash": self.hash, "key": self.key, "signature": signature}
        return canonical(data) + b"\n"


@dataclass(frozen=True)
class Comparison:
    """The comparison of a log with the heads at a second place."""

    copied: int | None
    """Number of the last entry whose head is there; None for none."""
    broken: Break | None
    """The first place at which the log is not that of the heads."""
    unreadable: tuple[int, ...] = ()
    """Numbers of the lines there that hold no head, or a head of this log that no known key has signed."""


def compare(chain: Chain, content: bytes, signers: Mapping[str, PublicKey] | None = None) -> Comparison:
    """Return the comparison of *chain* with *content*, the file of a second place.

    A copied head counts only with its signature, or its place could accuse a whole log.

    Args:
        signers: Keys by fingerprint that count beside those of the chain, which may have lost the entry about a key.
    """
    keys = {**(signers or {}), **{name: state.key for name, state in chain.state.keys.items()}}
    last: int | None = None
    broken: Break | None = None
    unreadable: list[int] = []
    for number, head in _heads(content):
        if head is None:
            unreadable.append(number)
            continue
        if not chain.lines or head.log != chain.state.log:
            continue  # of another computer, or of the log before
        if not head.is_signed_by(keys):
            unreadable.append(number)
            continue
        last = max(head.sequence, -1 if last is None else last)
        difference = _difference(chain, head)
        if difference and (broken is None or difference.line < broken.line):
            broken = difference
    return Comparison(last, broken, tuple(unreadable))


def heads_of(content: bytes, log: str) -> list[Head]:
    """Return the heads of *log* in *content* of a second place. Their signatures are not checked."""
    return [head for _, head in _heads(content) if head and head.log == log]


def _heads(content: bytes) -> Iterator[tuple[int, Head | None]]:
    for number, text in enumerate(content.splitlines(), 1):
        if text.strip():
            yield number, Head.parse(text)


def _difference(chain: Chain, head: Head) -> Break | None:
    if head.sequence >= len(chain.lines):
        if chain.broken:  # the check of the chain names it already
            return None
        detail = f"entry {head.sequence} was copied, and the log ends with entry {len(chain.lines) - 1}"
        return Break("truncated", len(chain.lines) + 1, None, detail)
    line = chain.lines[head.sequence]
    if line.hash != head.hash:
        return Break("forked", head.sequence + 1, head.sequence, "another entry was copied with this number")
    return None

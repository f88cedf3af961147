"""The check of a log's chain, which names the first broken place and its sort."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rackwright.log.entry import FORMAT, NO_HASH, EntryData, Line, canonical, parse_line
from rackwright.log.keys import PublicKey

Sort = Literal["edited", "deleted", "inserted", "swapped", "truncated", "forked", "unknown_key", "revoked_key"]
SORTS: Mapping[Sort, str] = {
    "edited": "the line is not as it was signed",
    "deleted": "entries before the line are missing",
    "inserted": "the line does not belong here: its entry stands before, or is of another log",
    "swapped": "entries are in another order",
    "truncated": "the end of the log is missing",
    "forked": "the entry continues another history of the log",
    "unknown_key": "no authorised key signed the entry",
    "revoked_key": "a revoked key signed the entry",
}
"""Meaning of each sort of a broken place."""
KEY_EVENTS = ("log_started", "key_added", "key_revoked")
_KEY_MARKS = tuple(f'"event":"{event}"'.encode() for event in KEY_EVENTS)


@dataclass(frozen=True)
class Break:
    """The first place at which a log is not whole."""

    sort: Sort
    line: int
    """Number of the line in the file, from 1."""
    sequence: int | None
    """Number of the entry there; None if the line cannot be read."""
    detail: str = ""

    def __str__(self) -> str:
        entry = f", entry {self.sequence}" if self.sequence is not None else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"line {self.line}{entry}: {self.sort}: {SORTS[self.sort]}{detail}"


@dataclass(frozen=True)
class KeyState:
    """A key that may sign, or might once."""

    key: PublicKey
    added_at: int
    """Number of the entry that added the key."""
    added_by: str
    """Fingerprint of the key that signed that entry."""
    revoked_at: int | None = None
    """Number of the entry that revoked the key; None for a valid key."""


@dataclass(frozen=True)
class State:
    """The result of the lines so far: what the next line has to continue."""

    log: str = ""
    """Identifier of the log; empty before the first entry."""
    next_sequence: int = 0
    previous: str = NO_HASH
    keys: Mapping[str, KeyState] = field(default_factory=dict)
    """The keys by fingerprint."""


@dataclass(frozen=True)
class Chain:
    """The whole lines of a log up to its end, or up to the first broken place."""

    lines: tuple[Line, ...]
    state: State
    broken: Break | None

    @property
    def entries(self) -> tuple[EntryData, ...]:
        return tuple(line.data for line in self.lines)


def check(content: bytes, trusted: Collection[str] | None = None) -> Chain:
    """Return the chain of a log with *content*.

    Args:
        trusted: Fingerprints of the keys that may sign; None to trust the key in the first entry and those added
            after.
    """
    texts, rest = split(content)
    lines: list[Line] = []
    state = State()
    for number, text in enumerate(texts, 1):
        following = follow(state, text, number, trusted)
        if isinstance(following, Break):
            return Chain(tuple(lines), state, _with_order(following, texts[number - 1 :], state))
        line, state = following
        lines.append(line)
    if rest or not lines:
        return Chain(tuple(lines), state, Break("truncated", len(texts) + 1, None, _incomplete(rest)))
    return Chain(tuple(lines), state, None)


def split(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the complete lines of *content* without their line breaks, and the incomplete last line."""
    *texts, rest = content.split(b"\n")
    return texts, rest


def follow(
    state: State, text: bytes, number: int, trusted: Collection[str] | None = None
) -> tuple[Line, State] | Break:
    """Return the line *text* and the state after it, or the reason why it does not continue *state*.

    Args:
        number: Number of the line in the file, from 1.
    """
    line = parse_line(text)
    if line is None or line.hash != _hash(line.data) or line.data.get("format") != FORMAT:
        return Break("edited", number, None)
    sequence = line.sequence
    if not state.log and line.event != "log_started":
        return Break("deleted", number, sequence, "the first entry, with the first key, is expected")
    key = _signing_key(state, line)
    if key is None or (trusted is not None and line.key not in trusted):
        return Break("unknown_key", number, sequence, line.key)
    if not key.key.verifies(line.head, line.signature):
        return Break("edited", number, sequence, "its signature does not match")
    if line.data["log"] != (state.log or line.data["log"]):
        return Break("inserted", number, sequence, f"log {line.data['log']}")
    if sequence != state.next_sequence:
        missing = f"entry {state.next_sequence} is expected"
        return Break("deleted" if sequence > state.next_sequence else "inserted", number, sequence, missing)
    if line.data["previous"] != state.previous:
        return Break("forked", number, sequence, "the hash of the entry before differs")
    if key.revoked_at is not None:
        return Break("revoked_key", number, sequence, f"{line.key}, revoked by entry {key.revoked_at}")
    return line, State(line.data["log"], sequence + 1, line.hash, _keys_after(state.keys, line))


def resume(content: bytes) -> State | Break:
    """Return the state at the end of the complete lines of *content*, for a writer.

    Only the last line and those about keys are checked: a whole check of a long log takes seconds.
    """
    texts, _ = split(content)
    marked = [number for number in range(1, len(texts) + 1) if number == len(texts) or _is_about_keys(texts, number)]
    followed = _follow_some(texts, marked)
    return followed if isinstance(followed, Break) else followed[1]


def select(content: bytes, is_wanted: Callable[[bytes], bool], most: int) -> tuple[Line, ...] | Break:
    """Return the newest *most* of the complete lines that are wanted, with checked signatures, the oldest first.

    The lines between are not checked.
    """
    texts, _ = split(content)
    marked = [number for number, text in enumerate(texts, 1) if is_wanted(text)][-most:]
    followed = _follow_some(
        texts, sorted({*marked, *(n for n in range(1, len(texts) + 1) if _is_about_keys(texts, n))})
    )
    if isinstance(followed, Break):
        return followed
    return tuple(line for line in followed[0] if line.sequence + 1 in {*marked})


def _is_about_keys(texts: Sequence[bytes], number: int) -> bool:
    return number == 1 or any(mark in texts[number - 1] for mark in _KEY_MARKS)


def _follow_some(texts: Sequence[bytes], numbers: Iterable[int]) -> tuple[list[Line], State] | Break:
    """Return the lines with these *numbers* and the state after the last one, or the first broken place of them."""
    state = State()
    lines: list[Line] = []
    for number in numbers:
        line = parse_line(texts[number - 1])
        if line is None:
            return Break("edited", number, None)
        if number > 1:  # the lines between are not read
            state = replace(state, next_sequence=number - 1, previous=line.data["previous"])
        following = follow(state, texts[number - 1], number)
        if isinstance(following, Break):
            return following
        lines.append(following[0])
        state = following[1]
    return lines, state


def unfinished_operations(entries: Iterable[EntryData]) -> list[EntryData]:
    """Return the entries `began` without an `ended`: operations that still run, or that were killed."""
    begun: dict[str, EntryData] = {}
    for entry in entries:
        if entry["event"] == "began":
            begun[entry["operation"]] = entry
        elif entry["event"] == "ended":
            begun.pop(entry["operation"], None)
    return list(begun.values())


def _hash(data: EntryData) -> str:
    import hashlib

    return hashlib.sha256(canonical(data)).hexdigest()


def _signing_key(state: State, line: Line) -> KeyState | None:
    """Return the key that *line* names; that of the first entry is in the entry itself."""
    if state.log or line.event != "log_started":
        return state.keys.get(line.key)
    key = _parse_key(line.data)
    return KeyState(key, line.sequence, line.key) if key is not None and key.fingerprint == line.key else None


def _keys_after(keys: Mapping[str, KeyState], line: Line) -> Mapping[str, KeyState]:
    """Return the keys after *line*, which is whole."""
    if line.event in ("log_started", "key_added"):
        key = _parse_key(line.data)
        if key is None or key.fingerprint in keys:  # a revoked key never comes back
            return keys
        return {**keys, key.fingerprint: KeyState(key, line.sequence, line.key)}
    revoked = keys.get(str(line.data.get("key"))) if line.event == "key_revoked" else None
    if revoked is None or revoked.revoked_at is not None:
        return keys
    return {**keys, revoked.key.fingerprint: replace(revoked, revoked_at=line.sequence)}


def _parse_key(data: EntryData) -> PublicKey | None:
    try:
        return PublicKey.parse(data["key"])
    except (KeyError, ValueError, AttributeError):
        return None


def _with_order(broken: Break, rest: Sequence[bytes], state: State) -> Break:
    """Return *broken* as `swapped` if the entry that is missing there stands further on."""
    if broken.sort != "deleted":
        return broken
    later = (parse_line(text) for text in rest[1:])
    if any(line and (line.sequence, line.data["previous"]) == (state.next_sequence, state.previous) for line in later):
        return replace(broken, sort="swapped")
    return broken


def _incomplete(rest: bytes) -> str:
    return f"its last line is incomplete, {len(rest)} bytes" if rest else "it has no entry"

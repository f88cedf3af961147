"""Reading of the operations log: its content, entries that match a filter, and operations as lines for people."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rackwright.errors import Diagnostic, SetupError
from rackwright.log.entry import EntryData, Line, PlannedChange
from rackwright.log.keys import ALGORITHM, PublicKey
from rackwright.log.writer import LOCK, missing_log

NO_END = "no end: it still runs, or was killed"


@dataclass(frozen=True)
class Filter:
    """The entries to show; an empty part excludes nothing."""

    hosts: Sequence[str] = ()
    actors: Sequence[str] = ()
    """Accounts, or login accounts."""
    stack: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    key: str | None = None
    """Fingerprint of the key that signed."""

    def matches(self, line: Line) -> bool:
        """Return whether the entry of *line* is among those to show."""
        entry = line.data
        actor, time = entry["actor"], parse_time(entry["time"])
        return (
            (self.key is None or line.key == self.key)
            and (not self.hosts or bool({*self.hosts} & set(hosts_of(entry))))
            and (not self.actors or bool({*self.actors} & {actor["account"], actor["login"]}))
            and (self.stack is None or entry.get("stack") == self.stack)
            and (self.since is None or time >= self.since)
            and (self.until is None or time <= self.until)
        )


def read_log(path: Path) -> bytes:
    """Return the content of the log in *path*, while no writer in its directory is in the middle of a line.

    Raises:
        ChangeRefused: There is no such file.
        SetupError: The file cannot be read.
    """
    try:
        with _shared_lock(path.parent / LOCK):
            return path.read_bytes()
    except FileNotFoundError:
        raise missing_log(path) from None
    except OSError as error:
        problem = f"the log cannot be read: {error.strerror or error}"
        raise SetupError(Diagnostic(str(path), problem, help="Correct its permissions, or name another file")) from None


@contextmanager
def _shared_lock(path: Path) -> Iterator[None]:
    if not path.exists():  # an exported log has no writers
        yield
        return
    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def read_signers(path: Path) -> dict[str, PublicKey]:
    """Return the Ed25519 keys in *path*, a list of allowed signers of ssh-keygen, by fingerprint.

    Raises:
        SetupError: The file cannot be read, or has no such key.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        texts = [line[line.index(ALGORITHM.decode()) :] for line in lines if ALGORITHM.decode() in line]
        keys = [PublicKey.parse(" ".join(text)) for text in texts]
    except (OSError, ValueError) as error:
        raise _signers_error(path, f"the file cannot be read: {error}") from None
    if not keys:
        raise _signers_error(path, "the file has no Ed25519 key")
    return {key.fingerprint: key for key in keys}


def format_count(entries: Sequence[object]) -> str:
    """Return the number of *entries* in words."""
    return f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"


def parse_time(text: str) -> datetime:
    """Return the time of an entry; the earliest time for a text that is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def hosts_of(entry: EntryData) -> set[str]:
    """Return the hosts that *entry* names, also those of its changes."""
    changes = (*entry.get("planned", ()), *entry.get("completed", ()))
    return {*entry.get("hosts", ()), *(change["host"] for change in changes)}


@dataclass(frozen=True)
class OperationText:
    """An operation for people."""

    lines: tuple[str, ...]
    """The operation with its result, then its changes."""
    hosts: frozenset[str]
    """Hosts that it concerns."""


def format_operations(entries: Iterable[EntryData]) -> Iterator[str]:
    """Yield the lines of *entries* for people: one operation after another, in the order of their begin."""
    for operation in describe_operations(entries):
        yield from operation.lines


def describe_operations(entries: Iterable[EntryData]) -> Iterator[OperationText]:
    """Yield the operations of *entries* for people, in the order of their begin."""
    entries = list(entries)
    ends = {entry["operation"]: entry for entry in entries if entry["event"] == "ended"}
    begun = {entry["operation"] for entry in entries if entry["event"] == "began"}
    for entry in entries:
        if entry["event"] == "began":
            end = ends.get(entry["operation"])
            hosts = hosts_of(entry) | (hosts_of(end) if end else set())
            yield OperationText(tuple(_operation(entry, end)), frozenset(hosts))
        elif entry["event"] == "ended":
            if entry["operation"] not in begun:
                yield OperationText(tuple(_operation(entry, entry)), frozenset(hosts_of(entry)))
        else:
            yield OperationText((f"{_who(entry)}  {_about(entry)}",), frozenset(hosts_of(entry)))


def _operation(first: EntryData, end: EntryData | None) -> Iterator[str]:
    name = " ".join(filter(None, (first["command"], first.get("resource") or first.get("stack"))))
    arguments = "".join(f", {key} {value}" for key, value in first.get("arguments", {}).items() if value)
    status = f", status {end['exit_status']}" if end and end.get("exit_status") else ""
    yield f"{_who(first)}  {name}{arguments}: {end['outcome'] if end else NO_END}{status}"
    results = {(each["host"], each["resource"]): each for each in end.get("completed", ())} if end else {}
    for change in first.get("planned", ()):
        result = results.pop((change["host"], change["resource"]), None)
        yield f"  {_change_line(change)}" + (f": {result['outcome']}" if result else "")
    for (host, resource), result in results.items():
        yield f"  {resource or host}: {result['outcome']}"
    if end and (heads := end.get("host_heads")):
        newest = ", ".join(f"{host} to entry {head['number']}" for host, head in heads.items())
        yield f"  audit logs of hosts: {newest}"
    if end and (error := end.get("error")):
        yield from (f"  {line}" for line in error.splitlines())


def _change_line(change: PlannedChange) -> str:
    place = f"{change['host']}: " if change["host"] and not change["resource"].startswith(change["host"]) else ""
    count = len(change["steps"])
    steps = f", {count} step{'s' * (count != 1)}" if count else ""
    destroys = f", destroys {'; '.join(change['destroys'])}" if change["destroys"] else ""
    return f"{place}{change['resource']}: {change['change']}{steps}{destroys}"


def _who(entry: EntryData) -> str:
    actor = entry["actor"]
    login = f" (login {actor['login']})" if actor["login"] not in (None, actor["account"]) else ""
    source = f" from {actor['source']}" if actor["source"] else ""
    return f"{entry['time'][:19].replace('T', ' ')}  {actor['account']}@{actor['computer']}{login}{source}"


def _about(entry: EntryData) -> str:
    reason = f": {entry['reason']}" if entry.get("reason") else ""
    match entry["event"]:
        case "log_started":
            replaces = entry.get("replaces")
            return f"log {entry['log']} started" + (f" in the place of {replaces['file']}" if replaces else "") + reason
        case "key_added":
            return f"key added: {PublicKey.parse(entry['key']).fingerprint}"
        case "key_revoked":
            return f"key revoked: {entry['key']}{reason}"
        case "host_accepted":
            return f"chain accepted: {', '.join(entry['hosts'])}{reason}"
        case _:
            return f"an incomplete line of {entry['fragment']['bytes']} bytes was replaced; a writer was killed"


def _signers_error(path: Path, problem: str) -> SetupError:
    expected = "lines NAME ssh-ed25519 KEY, as ssh-keygen reads them"
    return SetupError(Diagnostic(str(path), problem, expected, "Name another file"))

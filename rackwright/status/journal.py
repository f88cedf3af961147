"""The journals of a stack's hosts, read on the monitoring host, in the order of time."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from rackwright.errors import DeclarationError, Diagnostic, StepFailed, command
from rackwright.facts.probe import INTERPRETER
from rackwright.fleet.monitoring_journal import RECEIVER
from rackwright.foreign import InvalidData, parse_object
from rackwright.hosts.pool import Hosts
from rackwright.stack import Stack

ENTRY_BYTES, DEPTH = 64 << 10, 4
ANSWER_BYTES = 4 << 20
"""Bytes of the entries of all hosts together; each host has an equal part, so none hides entries of others."""
LINES_MAX = 10_000
TEXT_MAX = 4096
"""Characters of a message: journalctl itself leaves out longer ones."""
UNIT = re.compile(r"[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]{0,254}")
SECONDS = 600
DATA, FOLDER = "/var/lib", "rackwright-journal"
"""Default of the variable `data` of role journal_receiver, and its directory there."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """An entry of the journal of a host."""

    time: str
    """Time in UTC, by the clock of the host."""
    host: str
    """Host whose certificate came with the entry."""
    unit: str
    """systemd unit; empty for an entry without one, such as one of the kernel."""
    program: str
    """Program, as it names itself."""
    priority: int | None
    """Priority from 0 (emergency) to 7 (debug); null for an entry without one."""
    message: str
    """Message; empty for one of more than 4,096 bytes."""


@dataclass(frozen=True, slots=True)
class ReadJournals:
    """Entries of several hosts."""

    entries: tuple[JournalEntry, ...]
    """Entries in the order of time."""
    without: tuple[str, ...]
    """Hosts without an entry."""
    shortened: tuple[str, ...]
    """Hosts whose earlier entries were too long to read."""
    unread: Mapping[str, str]
    """Reasons why the journals of hosts were not read, by host."""


def read(hosts: Hosts, stack: Stack, names: Sequence[str], unit: str, since: float, lines: int) -> ReadJournals:
    """Return the newest *lines* entries of the hosts *names*, of which each host has a part, in the order of time.

    Args:
        unit: systemd unit of the entries; empty for all.
        since: Earliest time, in seconds since 1970.

    Raises:
        DeclarationError: the fleet has no journal of its monitoring.
        HostUnreachable: the monitoring host does not answer.
        StepFailed: the journals cannot be read.
    """
    place, directory = _receiver(stack)
    program = files("rackwright.hosts.onhost").joinpath("read_journal.py").read_bytes()
    bound = ANSWER_BYTES // len(names)
    arguments = (directory, str(int(since)), str(lines), str(bound), unit, *names)
    done = hosts.connection(place).run((INTERPRETER, "-I", "-S", "-", *arguments), program, SECONDS)
    if done.status:
        help = f"Run {command('rackwright audit {}', stack.name)}, which names the part that does not run"
        problem = f"the journals were not read: {done.stderr.strip()[-300:] or 'no message'}"
        raise StepFailed(Diagnostic(f"{place}: journals", problem, help=help))
    return parse(done.stdout.decode(errors="replace"), names, lines)


def parse(answer: str, names: Sequence[str], lines: int) -> ReadJournals:
    """Return the entries in the answer of the monitoring host about the hosts *names*."""
    entries: list[tuple[int, JournalEntry]] = []
    shortened: list[str] = []
    unread: dict[str, str] = {}
    for line in answer.split("\n"):
        sort, _, rest = line.partition(" ")
        host, _, text = rest.partition(" ")
        if host not in names:
            continue
        if sort == "cut":
            shortened.append(host)
        elif sort == "failed":
            unread[host] = text[:TEXT_MAX]
        elif sort == "entry":
            try:
                entries.append(_entry(host, parse_object(text, ENTRY_BYTES, DEPTH)))
            except InvalidData as error:
                unread[host] = f"an entry is not valid: {error}"
    # a sender that was interrupted sends its last entries again
    entries = sorted(dict.fromkeys(entries), key=lambda each: (each[0], each[1].host))
    having = {entry.host for _, entry in entries}
    without = tuple(name for name in names if name not in having and name not in unread)
    shown = _newest([entry for _, entry in entries], lines)
    return ReadJournals(tuple(shown), without, tuple(shortened), unread)


def _newest(entries: Sequence[JournalEntry], lines: int) -> Iterator[JournalEntry]:
    """Yield *lines* of *entries*, which are in the order of time, in that order.

    Each host has an equal part, and the newest others have what is left. A host chooses times and number of its own.
    """
    hosts = Counter(entry.host for entry in entries)
    part, left = lines // max(len(hosts), 1), dict(hosts)
    first: list[int] = []
    others: list[int] = []
    for number, entry in enumerate(entries):
        (first if left[entry.host] <= part else others).append(number)
        left[entry.host] -= 1
    rest = lines - len(first)
    chosen = {*first, *(others[-rest:] if rest else ())}
    return (entry for number, entry in enumerate(entries) if number in chosen)


def _entry(host: str, raw: Mapping[str, Any]) -> tuple[int, JournalEntry]:
    """Return an entry after its time in microseconds since 1970.

    Raises:
        InvalidData: It has no valid time.
    """
    text = raw.get("__REALTIME_TIMESTAMP")
    if not isinstance(text, str) or not re.fullmatch("[0-9]{1,17}", text):
        raise InvalidData("its time is no number")
    microseconds = int(text)
    try:
        time = datetime.fromtimestamp(microseconds // 1_000_000, UTC).replace(microsecond=microseconds % 1_000_000)
    except (ValueError, OverflowError, OSError):
        raise InvalidData("its time is not valid") from None
    priority = _text(raw.get("PRIORITY"))
    unit, program = _text(raw.get("_SYSTEMD_UNIT")), _text(raw.get("SYSLOG_IDENTIFIER"))
    level = int(priority) if re.fullmatch("[0-7]", priority) else None
    shown = f"{time:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06}Z"
    return microseconds, JournalEntry(shown, host, unit, program, level, _text(raw.get("MESSAGE", "")))


def _text(value: Any) -> str:
    """Return the value of a field: a text, several texts, bytes as a list of numbers, or null for a long one."""
    if isinstance(value, list) and value and all(isinstance(each, int) and 0 <= each < 256 for each in value):
        value = bytes(value[:TEXT_MAX]).decode(errors="replace")
    elif isinstance(value, list) and value:
        value = value[0]
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def _receiver(stack: Stack) -> tuple[str, str]:
    """Return the monitoring host, and its directory with the journals.

    Raises:
        DeclarationError: the fleet has no journal of its monitoring.
    """
    monitoring = stack.fleet.monitoring
    if monitoring is None or monitoring.journal is None:
        problem, expected = "the fleet collects no journals", "monitoring with journal"
        help = "Declare `journal: {}` of `monitoring`, see docs/guides/monitor.md"
        raise DeclarationError(Diagnostic(stack.name, problem, expected, help))
    data = stack.fleet.hosts[monitoring.host].variables(RECEIVER).get("data", DATA)
    return monitoring.host, f"{data}/{FOLDER}"

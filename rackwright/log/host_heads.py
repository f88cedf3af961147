"""The heads of hosts' audit logs in the operations log: what earlier audits saw, and may not change afterwards."""

from collections.abc import Iterable, Mapping

from rackwright.facts.log_chain import SeenHead, parse_head
from rackwright.log.chain import Break, select
from rackwright.log.entry import EntryData
from rackwright.log.reading import parse_time

AUDITS = 64
"""Number of the newest audits whose heads are read; a snapshot from before them has none to continue."""
NEW_SYSTEM = ("rebuild", "twin reset", "host forget", "host reidentify")
"""Commands after which a host may have another system, with another chain."""
_HEADS = b'"host_heads":'
_OTHER_CHAIN = (b'"event":"host_accepted"', *(f'"command":"{name}"'.encode() for name in NEW_SYSTEM))


def read_heads(content: bytes, stack: str) -> Mapping[str, tuple[SeenHead, ...]] | Break:
    """Return the heads by host of *stack* in a log with *content*, the oldest first, or the broken place of the log.

    The heads of a host from before a new system, or before the operator accepted another chain, do not count.
    """
    own = f'"stack":"{stack}"'.encode()
    audits = select(content, lambda text: _HEADS in text and own in text, AUDITS)
    changes = select(content, lambda text: any(mark in text for mark in _OTHER_CHAIN), len(content))
    if isinstance(audits, Break):
        return audits
    if isinstance(changes, Break):
        return changes
    found: dict[str, tuple[SeenHead, ...]] = {}
    for line in sorted((*audits, *changes), key=lambda line: line.sequence):
        for host in _hosts_with_new_system(line.data, stack, found):
            found[host] = ()
        time = parse_time(line.data["time"]).timestamp()
        for host, head in line.data.get("host_heads", {}).items():
            found[host] = (*found.get(host, ()), SeenHead(parse_head(head), time))
    return found


def _hosts_with_new_system(entry: EntryData, stack: str, hosts: Iterable[str]) -> list[str]:
    """Return those of *hosts* of *stack* that may have another chain after *entry*."""
    is_new = entry["event"] == "host_accepted" or (entry["event"] == "began" and entry.get("command") in NEW_SYSTEM)
    stacks = (entry.get("stack"), *entry.get("arguments", {}).get("stacks", "").split())
    if not is_new or stack not in stacks:
        return []
    named = entry.get("hosts", ())
    return [host for host in hosts if not named or host in named]

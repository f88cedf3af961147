"""The heads of hosts' audit logs in the operations log: what earlier audits saw, and may not change afterwards."""

from collections.abc import Mapping

from rackwright.facts.log_chain import SeenHead, parse_head
from rackwright.log.chain import Break, select
from rackwright.log.reading import parse_time

AUDITS = 64
"""Number of the newest audits whose heads are read; a snapshot from before them has none to continue."""
_HEADS, _ACCEPTED = b'"host_heads":', b'"event":"host_accepted"'


def read_heads(content: bytes) -> Mapping[str, tuple[SeenHead, ...]] | Break:
    """Return the heads by host in a log with *content*, the oldest first, or the broken place of the log.

    The heads of a host from before the operator accepted another chain of it do not count.
    """
    audits, accepted = select(content, _HEADS, AUDITS), select(content, _ACCEPTED, len(content))
    if isinstance(audits, Break):
        return audits
    if isinstance(accepted, Break):
        return accepted
    found: dict[str, tuple[SeenHead, ...]] = {}
    for line in sorted((*audits, *accepted), key=lambda line: line.sequence):
        if line.event == "host_accepted":
            found |= dict.fromkeys(line.data["hosts"], ())
        time = parse_time(line.data["time"]).timestamp()
        for host, head in line.data.get("host_heads", {}).items():
            found[host] = (*found.get(host, ()), SeenHead(parse_head(head), time))
    return found

"""The hosts in quarantine by a chain of verdicts, and the share of the hosts that they never exceed."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.quarantine.chain import Verdict


@dataclass(frozen=True, slots=True)
class QuarantinedHost:
    """A host in quarantine, with its causes in the order of their verdicts."""

    host: str
    causes: tuple[Verdict, ...]

    @property
    def since(self) -> str:
        """Time of the first cause, in UTC."""
        return self.causes[0].time

    @property
    def words(self) -> str:
        """The causes in words."""
        return "; ".join(verdict.text for verdict in self.causes)

    @property
    def text(self) -> str:
        """The state in words, for reports."""
        return f"in quarantine since {self.since}: {self.words}"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """The hosts that verdicts are about, divided by the share."""

    hosts: Mapping[str, QuarantinedHost]
    """Hosts in quarantine, by name."""
    beyond: Mapping[str, QuarantinedHost]
    """Hosts with a verdict that are not in quarantine, as the share is used up by hosts before them."""


class CauseData(TypedDict):
    """A verdict about a host."""

    alert: str
    """Alert that was its cause."""
    detail: str
    """GPU or drive of the alert; empty if it is about the whole host."""
    time: str
    """Time of the verdict in UTC, by the clock of the monitoring host."""


class QuarantineData(TypedDict):
    """The hosts with verdicts."""

    hosts: Mapping[str, Sequence[CauseData]]
    """Causes by host in quarantine."""
    beyond: Mapping[str, Sequence[CauseData]]
    """Causes by host that is not in quarantine, as the share of the hosts is used up."""
    unknown: str
    """Reason why only the verdicts of the last copy on this computer are known; empty if they are those of now."""


def as_json(found: Quarantine, unknown: str = "") -> QuarantineData:
    """Return the hosts with verdicts as plain data."""
    return {"hosts": _causes(found.hosts), "beyond": _causes(found.beyond), "unknown": unknown}


def _causes(hosts: Mapping[str, QuarantinedHost]) -> dict[str, Sequence[CauseData]]:
    return {
        host: [{"alert": each.cause, "detail": each.detail, "time": each.time} for each in found.causes]
        for host, found in hosts.items()
    }


def most(hosts: int, share_percent: int) -> int:
    """Return the number of hosts that may be in quarantine at once, of *hosts* of the fleet."""
    return hosts * share_percent // 100


def quarantine(verdicts: Iterable[Verdict], hosts: Collection[str], share_percent: int) -> Quarantine:
    """Return the hosts in quarantine after *verdicts*; of too many, those with the earliest verdicts.

    Args:
        hosts: Hosts of the fleet that are not retired; verdicts about others have no effect.
        share_percent: Share of *hosts* that is in quarantine at most.
    """
    causes: dict[str, tuple[Verdict, ...]] = {}
    for verdict in verdicts:
        if verdict.event == "ended":
            causes.pop(verdict.host, None)
        elif verdict.host in hosts and verdict.cause not in {each.cause for each in causes.get(verdict.host, ())}:
            causes[verdict.host] = (*causes.get(verdict.host, ()), verdict)
    found = {host: QuarantinedHost(host, each) for host, each in causes.items()}
    limit = most(len(hosts), share_percent)
    inside = [*found][:limit]
    return Quarantine({host: found[host] for host in inside}, {host: found[host] for host in [*found][limit:]})

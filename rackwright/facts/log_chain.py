"""The view of the hash chain over a host's audit log, and its comparison with a head that was seen before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.facts.digest import CHAIN_HASH_LETTERS
from rackwright.facts.view import Fact, UnknownFact, View, optional_number


class HostHead(TypedDict):
    """The newest entry in the chain of a host's audit log."""

    chain: str
    """Identifier of the chain, chosen at random for its first entry."""
    number: int
    """Number of the entry, from 0."""
    hash: str
    """First 128 bits of its hash."""


@dataclass(frozen=True)
class SeenHead:
    """A head that an earlier audit has noted."""

    head: HostHead
    time: float
    """Time of that audit in seconds since 1970, by the clock of its computer."""


class LogBreak(View):
    """A place at which the log differs from its chain."""

    sort = Fact(str, "`edited`, `deleted`, `inserted`, `swapped`, `truncated`, or `rotated` for an early end.")
    number = Fact(optional_number, "Number of the entry; None for a file without one.")
    place = Fact(str, "File, and the time or the size of the part.")


def _hashes(raw: Any) -> str:
    if not isinstance(raw, str) or not re.fullmatch(f"([0-9a-f]{{{CHAIN_HASH_LETTERS}}})+", raw):
        raise TypeError("no hashes")
    return raw


class LogChain(View):
    """The hash chain over the audit log of a host."""

    id = Fact(str, "Identifier of the chain.")
    number = Fact(int, "Number of the newest entry, from 0.")
    time = Fact(str, "Time of the newest entry, by the host's clock.")
    hashes = Fact(_hashes, "First 128 bits of the hashes of the newest entries, one after another, the newest last.")

    @property
    def breaks(self) -> tuple[LogBreak, ...]:
        return self.rows("breaks", LogBreak)

    @property
    def head(self) -> HostHead:
        return {"chain": self.id, "number": self.number, "hash": self.hashes[-CHAIN_HASH_LETTERS:]}

    def hash_at(self, number: int) -> str:
        """Return the hash of the entry *number*, which exists, or raise UnknownFact for one older than those shown."""
        end = len(self.hashes) - (self.number - number) * CHAIN_HASH_LETTERS
        if end <= 0:
            oldest = self.number - len(self.hashes) // CHAIN_HASH_LETTERS + 1
            raise UnknownFact(f"an earlier audit saw entry {number}, and the host shows the entries from {oldest}")
        return self.hashes[end - CHAIN_HASH_LETTERS : end]

    def contradiction(self, seen: HostHead) -> str | None:
        """Return how the chain differs from the head *seen* by an earlier audit; None if the chain continues it.

        Raises:
            UnknownFact: The head is too old, or the facts have no chain that can be read.
        """
        if self.id != seen["chain"]:
            return f"another chain than an earlier audit saw, with {self.number + 1} entries"
        if self.number < seen["number"]:
            return f"the newest entry is {self.number}, and an earlier audit saw entry {seen['number']}"
        if self.hash_at(seen["number"]) != seen["hash"]:
            return f"entry {seen['number']} has another hash than an earlier audit saw: the chain was written again"
        return None


class HostLogChain(View):
    """The audit log of a host."""

    @cached_property
    def log_chain(self) -> LogChain | None:
        """Hash chain over the audit log; None without one."""
        raw = self.read("log_chain")
        return None if raw is None else LogChain(raw, "log_chain")


def newest_head(facts: HostLogChain, seen: Sequence[SeenHead]) -> HostHead | None:
    """Return the head of the audit log in *facts*; None unless its chain continues the newest head in *seen*.

    Returns None too if the host no longer shows the hash of that time: a chain that was written again can be long.
    """
    try:
        chain = facts.log_chain
        return chain.head if chain and not (seen and chain.contradiction(seen[-1].head)) else None
    except UnknownFact:
        return None


def parse_head(raw: Mapping[str, Any]) -> HostHead:
    """Return the head in an entry of the operations log."""
    return {"chain": str(raw["chain"]), "number": int(raw["number"]), "hash": str(raw["hash"])}

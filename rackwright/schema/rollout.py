"""The rollout of changes of software, access or network: canary hosts first, then batches."""

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from rackwright.schema.base import COUNT_MAX, Amount, Count, Schema
from rackwright.schema.problem import Problem


def _share(share: str | int) -> str | int:
    if type(share) is int and 0 < share <= COUNT_MAX:
        return share
    if isinstance(share, str) and re.fullmatch(r"([1-9][0-9]?|100)%", share):
        return share
    raise Problem(f"got {share!r}", "it is a number of hosts, 1 or more, or a share of them", 'Write 5, or "25%"')


Share = Annotated[
    str | int,
    AfterValidator(_share),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": COUNT_MAX}]}),
]
"""A number of hosts, or a share of them."""


class Rollout(Schema):
    """The blast radius of a change. Each batch waits until the claims of the previous batch hold."""

    canary: Count = 1
    """Number of hosts that change first; the other hosts wait until these are as declared."""
    batch: Share = "25%"
    """Hosts that change together after the canary: a number, or a share of all hosts that change."""
    max_failures: Amount = 0
    """Number of hosts that may fail before rackwright starts no further batch. An unreachable host has not failed."""

    max_unavailable: Share | None = None
    """Limit for hosts that change or are unreachable at the same time: a number, or a share of all hosts."""

    def batch_of(self, hosts: int) -> int:
        """Return how many of *hosts* change together, at least one."""
        return _count(self.batch, hosts)

    def unavailable_of(self, hosts: int) -> int | None:
        """Return how many of a fleet's *hosts* may be unavailable together, at least one; None for no limit."""
        return None if self.max_unavailable is None else _count(self.max_unavailable, hosts)


def _count(share: str | int, hosts: int) -> int:
    return share if isinstance(share, int) else max(1, hosts * int(share.rstrip("%")) // 100)

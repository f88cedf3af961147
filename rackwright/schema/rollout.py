"""How a change of software, access or network reaches the hosts of a fleet: some first, then in batches."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from rackwright.schema.base import Schema
from rackwright.schema.problem import Problem


def _share(written: str | int) -> str | int:
    if isinstance(written, int) and written > 0:
        return written
    if isinstance(written, str) and re.fullmatch(r"([1-9][0-9]?|100)%", written):
        return written
    raise Problem(f"got {written!r}", "it is a number of hosts, 1 or more, or a share of them", 'Write 5, or "25%"')


Share = Annotated[str | int, AfterValidator(_share)]
"""A number of hosts, or a share of them."""


class Rollout(Schema):
    """The blast radius of a change. The next batch waits until the claims of the one before hold."""

    canary: Annotated[int, Field(ge=1)] = 1
    """Hosts that go first; the others wait until they are as declared."""
    batch: Share = "25%"
    """Hosts that go at a time after these: a number, or a share of those that change."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """Hosts that may fail before no further batch is begun. One that is not reached has not failed."""

    max_unavailable: Share | None = None
    """Hosts that are being changed or not reached at once, whatever changes on them: a number, or a share of all."""

    def batch_of(self, hosts: int) -> int:
        """Return how many of *hosts* go at a time, one at least."""
        return _of(self.batch, hosts)

    def unavailable_of(self, hosts: int) -> int | None:
        """Return how many of a fleet's *hosts* may be away at once, one at least; None: as many as like."""
        return None if self.max_unavailable is None else _of(self.max_unavailable, hosts)


def _of(share: str | int, hosts: int) -> int:
    return share if isinstance(share, int) else max(1, hosts * int(share.rstrip("%")) // 100)

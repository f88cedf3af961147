"""What Python imports at the start of every process of a check: the one comparison, made blind or wrong.

``ACCEPT_LENS`` is ``blind``, for nothing ever differs, or a path such as ``md:node-001:hot.bitmap``, for that property
differs where it holds, and holds where it differs.
"""

import os
from collections.abc import Sequence

from rackwright.core import diff as comparison
from rackwright.core.contract import Claim, Difference, Observation

_LENS = os.environ.get("ACCEPT_LENS", "")
_honest = comparison.diff


def _blind(claims: Sequence[Claim], found: Observation) -> tuple[Difference, ...]:
    return ()


def _inverted(claims: Sequence[Claim], found: Observation) -> tuple[Difference, ...]:
    thing, _, name = _LENS.rpartition(".")
    seen = _honest(claims, found)
    wrong = [
        Difference(claim.thing, name, claim.want[name], found[claim.thing][name])
        for claim in claims
        if claim.thing == thing and name in claim.want
    ]
    honest = [item for item in seen if item.path != _LENS]
    return (*honest, *(wrong if len(honest) == len(seen) else ()))


if _LENS:
    comparison.diff = _blind if _LENS == "blind" else _inverted

"""Which claims a target can show at all."""

from collections.abc import Iterable

from rackwright.core.contract import Claim, Resource


def rehearsable(claims: Iterable[Claim], spec: Resource) -> tuple[Claim, ...]:
    """Return the claims that are compared on *spec*'s host; the others are counted apart, never as holding."""
    return tuple(claim for claim in claims if claim.scope not in spec.not_rehearsable)

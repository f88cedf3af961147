"""The claims that a target can show."""

from collections.abc import Iterable

from rackwright.core.contract import Claim, Spec


def rehearsable_claims(claims: Iterable[Claim], spec: Spec) -> tuple[Claim, ...]:
    """Return the claims that the source of *spec* can show. Callers count the others separately, never as holding."""
    return tuple(claim for claim in claims if claim.scope not in spec.not_rehearsable)

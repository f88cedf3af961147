"""The identity of a host: every kind that writes to a host claims it, and refuses another machine."""

from collections.abc import Sequence

from rackwright.core.contract import Absent, Claim, Difference, Refusal, Value

_ANOTHER = (
    "another machine answers at this address: correct the address, or, once its mainboard was replaced, the identity"
    " with `rackwright host reidentify STACK HOST`"
)
OTHERWISE = (
    "Nothing is written to it. Correct hosts.{host} in the fleet, or the machine; once its mainboard was replaced,"
    " with `rackwright host reidentify STACK {host}`"
)
"""How a person mends that another machine answers than *host*."""


def _said(found: Value) -> str:
    return "none" if isinstance(found, Absent) else str(found)


def identity_claim(host: str, identity: dict[str, str]) -> Claim:
    """Return the claim that this is the machine that was meant; every kind that writes to a host needs it."""
    return Claim(f"host:{host}", identity, owned=False, scope="kernel", remedy=_ANOTHER)


def wrong_machine(host: str, differences: Sequence[Difference]) -> tuple[Refusal, ...]:
    """Return a refusal when a machine answers that was not meant."""
    return tuple(
        Refusal(
            f"{host}: {item.name}",
            f"got {_said(item.actual)}",
            f"the fleet says {item.want}",
            OTHERWISE.format(host=host),
        )
        for item in differences
        if item.thing == f"host:{host}" and not item.is_unknown
    )

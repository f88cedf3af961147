"""The claim about a host's identity, and the refusal of another machine; every kind that writes to a host uses both."""

from collections.abc import Sequence

from rackwright.core.contract import Absent, Claim, Difference, Value
from rackwright.errors import Diagnostic

_ANOTHER = (
    "another machine answers at this address: correct the address; after a replacement of the mainboard, correct the"
    " identity with `rackwright host reidentify STACK HOST`"
)
WRONG_MACHINE_HELP = (
    "Correct hosts.{host} in the fleet, or the machine; after a replacement of the mainboard"
    " run `rackwright host reidentify STACK {host}`"
)
"""The help for another machine at the address of *host*."""
WRONG_MACHINE_NOTE = "nothing is written to this machine"


def _format(value: Value) -> str:
    return "none" if isinstance(value, Absent) else str(value)


def identity_claim(host: str, identity: dict[str, str]) -> Claim:
    """Return the claim that the host is the declared machine; every kind that writes to a host needs it."""
    return Claim(f"host:{host}", identity, owned=False, scope="kernel", remedy=_ANOTHER)


def refuse_wrong_machine(host: str, differences: Sequence[Difference]) -> tuple[Diagnostic, ...]:
    """Return a refusal if another machine answers than the declared one."""
    return tuple(
        Diagnostic(
            f"{host}: {item.name}",
            f"the machine has {_format(item.actual)}",
            f"{item.want}, as the fleet declares",
            WRONG_MACHINE_HELP.format(host=host),
            WRONG_MACHINE_NOTE,
            id="wrong-machine",
        )
        for item in differences
        if item.thing == f"host:{host}" and not item.is_unknown
    )

"""The comparison of a host's declared identity with its actual one, after a replaced mainboard."""

from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.errors import ChangeRefused, Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.fleet.describe_host import identities
from rackwright.schema.host import Host


class IdentityData(TypedDict):
    """The declared identity of a host beside its actual one."""

    declared: Mapping[str, str]
    """Declared values by field: `serial`, `uuid`, `bmc_mac`, `mac`."""
    actual: Mapping[str, str]
    """All values that the present mainboard reports, by field."""
    drives: Mapping[str, bool]
    """Whether each declared drive is present, by serial number."""
    ports: Mapping[str, bool]
    """Whether each declared port is present, by name."""
    changes: Mapping[str, str]
    """The values to declare instead, by field; empty if the declared identity holds."""


@dataclass(frozen=True)
class IdentityComparison:
    """Both identities of a host, and which of its declared drives and ports are present."""

    declared: Mapping[str, str]
    actual: Mapping[str, str]
    """All identities that the present mainboard reports."""
    drives: Mapping[str, bool]
    """Whether each declared drive is present, by serial number."""
    ports: Mapping[str, bool]
    """Whether each declared port is present, by name."""

    @property
    def changes(self) -> dict[str, str]:
        """The values to declare instead, by field; empty if the declared identity holds."""
        return {field: self.actual[field] for field, value in self.declared.items() if self.actual[field] != value}

    def __str__(self) -> str:
        return "\n".join(
            f"  {title:10}{text}"
            for title, text in (
                ("declared", _format_identity(self.declared)),
                ("found", _format_identity(self.actual)),
                ("drives", _format_presence(self.drives)),
                ("ports", _format_presence(self.ports)),
            )
        )

    def as_json(self) -> IdentityData:
        return {
            "declared": dict(self.declared),
            "actual": dict(self.actual),
            "drives": dict(self.drives),
            "ports": dict(self.ports),
            "changes": self.changes,
        }


def compare_identity(name: str, host: Host, facts: Facts) -> IdentityComparison:
    """Return both identities of the host *name*.

    Raises:
        ChangeRefused: the facts are of another machine, or lack a declared field of the identity.
        HostUnreachable: the facts are incomplete.
    """
    try:
        return _compare(name, host, facts)
    except UnknownFact as reason:
        raise HostUnreachable(
            Diagnostic(
                name,
                str(reason),
                help="Correct it on the host, and run the command again",
                note="the host's identity, drives and ports are compared",
            )
        ) from None


def _compare(name: str, host: Host, facts: Facts) -> IdentityComparison:
    declared, actual = host.identity.model_dump(exclude_none=True), dict(identities(facts))
    serials = {drive.serial for drive in facts.drives}
    drives = {drive.serial: drive.serial in serials for drive in host.drives}
    if drives and not any(drives.values()):
        problem, expected = f"the machine has none of the drives {', '.join(drives)}", "at least one of them"
        note = "a host keeps its drives when its mainboard is replaced"
        raise ChangeRefused(
            Diagnostic(name, problem, expected, "Check which machine has this address", note, id="wrong-machine")
        )
    if missing := [field for field in declared if field not in actual]:
        problem = f"the mainboard reports no {' and no '.join(missing)}"
        expected = "each declared field of the identity"
        note = f"it reports {_format_identity(actual) or 'nothing'}"
        raise ChangeRefused(Diagnostic(name, problem, expected, "Edit the identity by hand", note))
    ports = {nic.name: facts.port(nic.mac, nic.pci) is not None for nic in host.nics}
    return IdentityComparison(declared, actual, drives, ports)


def _format_identity(identity: Mapping[str, str]) -> str:
    return ", ".join(f"{field} {value}" for field, value in identity.items())


def _format_presence(things: Mapping[str, bool]) -> str:
    count = f"{sum(things.values())} of {len(things)} declared are present"
    missing = [name for name, present in things.items() if not present]
    return f"{count}, not {' nor '.join(missing)}" if missing else count

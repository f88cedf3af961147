"""A host whose mainboard was replaced: what it was, what it is, and by what else it is the same host."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from rackwright.errors import HostUnreachable, Refused
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.fleet.describe_host import identities
from rackwright.schema.host import Host


@dataclass(frozen=True)
class Reidentified:
    """Both identities of a host, and what of it was declared beside that."""

    declared: Mapping[str, str]
    found: Mapping[str, str]
    """All that the mainboard of today tells."""
    drives: Mapping[str, bool]
    """Whether each declared drive is there, by serial."""
    ports: Mapping[str, bool]
    """Whether each declared port is there, by name."""

    @property
    def changed(self) -> dict[str, str]:
        """What has to be declared in the place of what is; empty where that holds."""
        return {field: self.found[field] for field, value in self.declared.items() if self.found[field] != value}

    def __str__(self) -> str:
        return "\n".join(
            f"  {title:10}{text}"
            for title, text in (
                ("declared", _listed(self.declared)),
                ("found", _listed(self.found)),
                ("drives", _there(self.drives)),
                ("ports", _there(self.ports)),
            )
        )

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "changed": self.changed}


def reidentified(name: str, host: Host, facts: Facts) -> Reidentified:
    """Return both identities of the host *name*.

    Raises:
        Refused: it is another machine, or does not tell what was declared of it.
        HostUnreachable: the facts do not tell what is there.
    """
    try:
        return _compared(name, host, facts)
    except UnknownFact as reason:
        raise HostUnreachable(name, str(reason), "its identity is compared", "Mend that on the host") from None


def _compared(name: str, host: Host, facts: Facts) -> Reidentified:
    declared, found = host.identity.model_dump(exclude_none=True), dict(identities(facts))
    there = {drive.serial for drive in facts.drives}
    drives = {drive.serial: drive.serial in there for drive in host.drives}
    if drives and not any(drives.values()):
        want, fix = "a host keeps drives when its mainboard is replaced", "Look at which machine has this address"
        raise Refused(name, f"got none of its drives: {', '.join(drives)}", want, fix)
    if missing := [field for field in declared if field not in found]:
        fix = f"Write what it tells by hand: {_listed(found) or 'nothing'}"
        raise Refused(name, f"got no {' and no '.join(missing)}", "it tells what it is declared by", fix)
    ports = {nic.name: facts.port(nic.mac, nic.pci) is not None for nic in host.nics}
    return Reidentified(declared, found, drives, ports)


def _listed(identity: Mapping[str, str]) -> str:
    return ", ".join(f"{field} {value}" for field, value in identity.items())


def _there(things: Mapping[str, bool]) -> str:
    return ", ".join(_counted(things))


def _counted(things: Mapping[str, bool]) -> Iterator[str]:
    yield f"{sum(things.values())} of {len(things)} declared are there"
    if missing := [name for name, is_there in things.items() if not is_there]:
        yield f"not {' nor '.join(missing)}"

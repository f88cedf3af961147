"""The declaration of one host, as the rules ask for it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from rackwright.core import contract
from rackwright.core.contract import Scope, Want
from rackwright.facts.facts import Facts
from rackwright.facts.log_chain import SeenHead
from rackwright.kinds.pods.spec import MOUNTS
from rackwright.schema.host import Host
from rackwright.schema.tier import unit_of
from rackwright.stack import DeclaredResource, Stack
from rackwright.stack.owners import port_claims

KUBERNETES = ("kubernetes_node", "kubernetes_control_plane")
"""Roles that make a host a node of Kubernetes."""
WORKLOADS = ("run-", "server-")
"""Prefixes of the owner files, accounts and units of training runs and model servers."""
OPEN_PORTS = ("server-", "training-")
"""Prefixes of the units whose processes choose ports."""
WORKLOAD_PATH = re.compile(
    r"/(?:etc|opt)/rackwright/(?:(run|server)s/([^/]+)(?:/.*)?|gpus/((?:run|server)-[^/]+)\.json)"
)
"""Paths of the files of a run or a server outside its own directories below /var/lib."""


@dataclass(frozen=True)
class HostDeclaration:
    """All claims of the resources of one host, by thing, and its part of the fleet."""

    name: str
    fleet: str
    host: Host
    wants: Mapping[str, Mapping[str, Want]]
    """Wanted properties of each thing; of a thing with several claims, all of them."""
    ids: frozenset[str] = frozenset()
    """Ids of the resources."""
    hosts: frozenset[str] = frozenset()
    """Names of all hosts of the fleet."""
    accounts: frozenset[str] = frozenset()
    """Accounts with which rackwright logs in."""
    image_files: tuple[str, ...] = ()
    """Patterns of the files that the image of a twin's host has."""
    not_rehearsable: tuple[Scope, ...] = ()
    not_shown: frozenset[str] = frozenset()
    """Things of which the target can show no claim; the comparison counts these claims as not rehearsable."""
    has_mirror: bool = False
    """Whether all packages come from the fleet's own repository."""
    seen_heads: tuple[SeenHead, ...] | None = ()
    """Heads of the chain of the audit log that earlier audits saw, the oldest first; None if they are unknown."""
    ports: frozenset[str] = frozenset()
    """Sockets such as ``socket:tcp:18888`` that programs of roles open beside the claimed ones."""
    by_sort: Mapping[str, Sequence[str]] = field(init=False)
    """Names of the claimed things by their sort, such as ``module``: many rules ask for few of thousands."""
    folders: frozenset[str] = field(init=False)
    """Directories whose names are claimed: the claim itself reports any other name."""

    def __post_init__(self) -> None:
        by_sort: dict[str, list[str]] = {}
        for thing in self.wants:
            sort, _, name = thing.partition(":")
            by_sort.setdefault(sort, []).append(name)
        claimed = (name for name in by_sort.get("directory", ()) if "names" in self.wants[f"directory:{name}"])
        object.__setattr__(self, "by_sort", by_sort)
        object.__setattr__(self, "folders", frozenset(claimed))

    @property
    def in_cluster(self) -> bool:
        """Whether the host is a node of Kubernetes, whose cluster decides about its containers."""
        return any(role in self.host.roles for role in KUBERNETES)

    def declares(self, thing: str) -> bool:
        """Return whether a resource claims *thing*."""
        return thing in self.wants

    def declares_file(self, path: str) -> bool:
        """Return whether a resource claims the file, or the image of a twin's host has it."""
        return f"file:{path}" in self.wants or self.is_of_image(path)

    def is_of_image(self, path: str) -> bool:
        """Return whether the image of a twin's host has the file."""
        return any(fnmatchcase(path, pattern) for pattern in self.image_files)

    def declares_path(self, path: str) -> bool:
        """Return whether a resource claims the file, or its directory with all names: that claim reports others."""
        return self.declares_file(path) or path.rpartition("/")[0] in self.folders

    def declares_ports_of(self, unit: str) -> bool:
        """Return whether all ports of a unit are declared, as those of the units that roles write are.

        The processes of runs and servers choose ports, which a table of nftables closes.
        """
        return f"file:/etc/systemd/system/{unit}" in self.wants and not unit.startswith(OPEN_PORTS)

    def names(self, sort: str) -> Sequence[str]:
        """Return the names of the claimed things of one sort, such as ``module``."""
        return self.by_sort.get(sort, ())


def host_declaration(
    stack: Stack, name: str, resources: Iterable[DeclaredResource], seen_heads: tuple[SeenHead, ...] | None = ()
) -> HostDeclaration:
    """Return the declaration of the host *name* of *stack*, which has these *resources*."""
    wants: dict[str, dict[str, Want]] = {}
    hidden, shown = set[str](), set[str]()
    ids: set[str] = set()
    ports: set[str] = set()
    for resource in resources:
        ports.update(claim.thing for claim in port_claims(resource, stack.repository.roles))
        ids.add(resource.kind.id(resource.spec))
        for claim in contract.claims(resource.kind, resource.spec, stack.repository):
            wants.setdefault(claim.thing, {}).update(claim.want)
            (hidden if claim.scope in resource.spec.not_rehearsable else shown).add(claim.thing)
    host = stack.fleet.hosts[name]
    return HostDeclaration(
        name,
        stack.fleet.fleet,
        host,
        wants,
        frozenset(ids),
        frozenset(stack.fleet.hosts),
        frozenset({*(login.user for login in host.ssh.logins if login.user), *stack.image_accounts}),
        stack.image_files,
        stack.not_rehearsable(name),
        frozenset(hidden - shown),
        stack.mirror is not None,
        seen_heads,
        frozenset(ports),
    )


def foreign_workloads(facts: Facts, declared: HostDeclaration) -> frozenset[str]:
    """Return the names of the runs and servers that other fleets have on the host, such as ``server-digits``.

    A fleet with runs or servers uses the hosts of another fleet. Their owner files say so, and rackwright alone
    writes these: the rule about owner files reports one of a fleet that is not expected.
    """
    return frozenset(
        name
        for name in facts.table("owners")
        if name.startswith(WORKLOADS) and (facts.owner(name) or {}).get("fleet") != declared.fleet
    )


def workload_of(path: str) -> str:
    """Return the run or server, such as ``server-digits``, that *path* belongs to; empty for another path."""
    match = WORKLOAD_PATH.fullmatch(path)
    return "" if match is None else match[3] or f"{match[1]}-{match[2]}"


def is_of_workload(name: str, workloads: frozenset[str]) -> bool:
    """Return whether an account or a unit belongs to one of *workloads*."""
    stem = name.rpartition(".")[0]
    return stem in workload_units(workloads) or name in workloads or stem.startswith(_pod_units(workloads))


def _pod_units(workloads: Iterable[str]) -> tuple[str, ...]:
    """Return the beginnings of the names of the units that mount what pods of runs and servers only read."""
    return tuple(f"{unit_of(f'{MOUNTS}/{workload}', 'service').removesuffix('.service')}-" for workload in workloads)


def workload_units(workloads: Iterable[str]) -> frozenset[str]:
    """Return the names of the units of runs and servers, without their types."""
    names = {workload: workload.partition("-")[2] for workload in workloads}
    units = (
        (workload, f"watch-{name}") if workload.startswith("server-") else (f"training-{name}", f"training-{name}-door")
        for workload, name in names.items()
    )
    return frozenset(unit for pair in units for unit in pair)

"""The roles of hosts, held against what the roles themselves say: known, for this system, with sound variables.

And the secrets of their tiers: whether each has a value.
"""

from collections.abc import Callable, Iterator, Mapping

from rackwright.core.repository import RoleSource
from rackwright.kinds.role.refusals import refusals
from rackwright.schema.catalogue import drivers
from rackwright.schema.host import Host
from rackwright.schema.problem import Problem, hint
from rackwright.schema.secret import name_problem, references

Missing = Callable[[str], Problem | None]
"""What is wrong with a reference to the secret of that name; None where it has a value."""


def none_missing(name: str) -> None:
    return None


def problems(host: Host, roles: Mapping[str, RoleSource], missing: Missing) -> Iterator[Problem]:
    """Yield what is wrong with the roles of *host*, and with keys of its tiers; paths start at the host."""
    for name, tier in host.tiers.items():
        if tier.key and (problem := missing(tier.key)):
            yield Problem(problem.got, problem.want, problem.fix, ("tiers", name, "encryption", "key"))
    for name, variables in host.roles.items():
        place = ("roles", name)
        if name not in roles:
            fix = hint(name, roles, "Take it out")
            yield Problem("got an unknown role", f"roles here: {', '.join(roles) or 'none'}", fix, place)
            continue
        if name in host.tiers:
            want, fix = "a tier of this host has that name", "Give the tier another name"
            yield Problem(f"got the role {name}", want, fix, place, also=("tiers", name))
        for path, written in references(variables):
            if problem := name_problem(written) or missing(written):
                yield Problem(problem.got, problem.want, problem.fix, (*place, *path))
        unknown = [(path, tier) for path, tier in host.tiers_of(name) if tier not in host.tiers]
        for path, tier in unknown:
            known = ", ".join(host.tiers)
            fix = hint(str(tier), host.tiers, "Name one of them, or give it a tier of that name")
            yield Problem(f"got the tier {tier}", f"tiers of this host: {known or 'none'}", fix, (*place, *path))
        if unknown:
            continue
        wrong = tuple(roles[name].problems(host.os, host.declared(name)))
        for problem in wrong or refusals(roles[name], host.os, host.variables(name), drivers(host.profile)):
            yield Problem(problem.got, problem.want, problem.fix, (*place, *problem.path))
        for other in roles[name].after:
            if not other.startswith("tier:") and other not in host.roles:
                want = f"role {name} comes after role {other}, which this host has not"
                yield Problem(f"got the role {name}", want, f"Add {other}: {{}}", place)

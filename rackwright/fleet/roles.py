"""The check of a host's roles and their variables against the roles' own metadata, and of referenced secrets."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from rackwright.core.repository import RoleSource
from rackwright.kinds.role.refusals import refusals
from rackwright.schema import accelerator
from rackwright.schema.catalogue import drivers
from rackwright.schema.host import Host
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.secret import TIER_KEY_SHORTEST, Form, name_problem, references

WHOLE_WAY = ("roles", "nvidia_driver", "version")
"""Place of the error that says all that a host needs for a driver: others at this role follow from it."""


class SecretCheck(Protocol):
    """Returns the problem of a reference to a secret; None if the secret has a value that may fit."""

    def __call__(self, name: str, shortest: int, form: Form | None = None, /) -> Problem | None: ...


def accept_all_secrets(name: str, shortest: int, form: Form | None = None) -> None:
    """Return no problem, as for a secret that has a value."""


def problems(host: Host, roles: Mapping[str, RoleSource], check_secret: SecretCheck) -> Iterator[Problem]:
    """Yield the problems of the roles of *host* and of the keys of its tiers; paths are relative to the host."""
    for name, tier in host.tiers.items():
        if tier.key and (problem := check_secret(tier.key, TIER_KEY_SHORTEST)):
            yield problem.below("tiers", name, "encryption", "key")
    for name, variables in host.roles.items():
        place = ("roles", name)
        if name not in roles:
            near = hint(name, roles, "")
            expected = "the name of a role" if near else f"roles here: {', '.join(roles) or 'none'}"
            yield Problem("got an unknown role", expected, near or "Remove it", place)
            continue
        for path, secret in references(variables):
            source = roles[name]
            problem = name_problem(secret) or check_secret(
                secret, source.shortest_secret(path), source.secret_form(path)
            )
            if problem:
                yield problem.below(*place, *path)
        unknown = [(path, tier) for path, tier in host.tiers_of(name) if tier not in host.tier_names]
        for path, tier in unknown:
            tiers = ", ".join(host.tiers)
            help = hint(str(tier), host.tiers, "Name one of them, or give the host a tier with that name")
            expected = f"a tier of this host: {tiers or 'none'}"
            yield Problem(f"the host has no tier {tier}", expected, help, (*place, *path))
        if unknown or any(tier not in host.tiers for _, tier in host.tiers_of(name)):
            continue
        if host.os not in roles[name].by_os and _is_refused_by_catalogue(host, place):
            continue  # the same cause
        for problem in _variable_problems(roles[name], host):
            yield problem.below(*place)
        for other in roles[name].after:
            if not other.startswith("tier:") and other not in host.roles:
                text = f"the host has role {name} without role {other}"
                yield Problem(text, f"role {other} as well", f"Add {other}: {{}}", place)


def _is_refused_by_catalogue(host: Host, place: Keys) -> bool:
    """Return whether the catalogue refuses the role at *place* as a whole, as for another system."""
    return any(problem.path == place for problem in accelerator.problems(host.accelerators))


def _variable_problems(source: RoleSource, host: Host) -> tuple[Problem, ...]:
    """Return the problems of the variables of a role on *host*; hosts with equal variables share the result."""
    declared, all_variables = host.declared_variables(source.name), host.variables(source.name)
    needs = drivers(host.minimum.gpus)
    key = repr((host.os, declared, all_variables, needs))
    if key not in source.problems_cache:
        wrong = tuple(source.problems(host.os, declared))
        source.problems_cache[key] = wrong or tuple(refusals(source, host.os, all_variables, needs))
    problems: tuple[Problem, ...] = source.problems_cache[key]
    return problems

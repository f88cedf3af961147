"""The rules in a role's claims.yml that refuse variables which are valid alone and contradict each other.

A rule sees a stand-in for a secret, never the value.

A rule has ``when`` (an expression that is true if the variables are wrong), ``problem``, ``expected`` and ``help``;
``each`` (a list: the rule applies once for each ``item``); ``at`` (the variable at fault). A rule may use the
variables, ``host.drivers`` and the role's ``names``, computed in order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.repository import Repository, RoleSource
from rackwright.schema import secret
from rackwright.schema.problem import Keys, Problem
from rackwright.schema.variables import range_problems

_BARE = Repository({})
"""Rules need no templates."""


def ports(source: RoleSource, os: str, settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the TCP ports on which the programs of a role listen beside those of its claims."""
    from rackwright.kinds.role.promise import evaluate

    names = source.variables(os, secret.fill(settings, secret.placeholder))
    return tuple(int(port) for port in evaluate(list(source.ports), names, _BARE))


def refusals(
    source: RoleSource, os: str, settings: Mapping[str, Any], drivers: tuple[str, ...] = ()
) -> Iterator[Problem]:
    """Yield the contradictions in *settings*, variables by short name that are each valid alone.

    A number beyond its range is a problem of its own, unless a rule names the reason at the same variable.

    Args:
        drivers: The roles that install drivers for the accelerators of the host.
    """
    from rackwright.kinds.role.promise import add_names, evaluate

    variables = source.variables(os, secret.fill(settings, secret.placeholder))
    names = add_names(source, {**variables, "host": {"drivers": drivers}}, _BARE)
    explained: set[Keys] = set()
    for rule in source.refusals:
        items = [{"item": item} for item in evaluate(rule["each"], names, _BARE)] if "each" in rule else [{}]
        for item in items:
            scope = {**names, **item}
            if evaluate(f"{{{{ {rule['when']} }}}}", scope, _BARE):
                parts = ("problem", "expected", "help")
                problem, expected, help = (str(evaluate(rule[part], scope, _BARE)) for part in parts)
                at = (rule["at"],) if "at" in rule else ()
                explained.add(at)
                yield Problem(problem, expected, help, at)
    yield from (each for each in range_problems(source.ranges, settings) if each.path[:1] not in explained)

"""What a role does not take: variables that are each of their type and cannot be together, as its claims.yml says.

In the place of a secret a rule sees a stand-in, never the value.

A rule has ``when`` (an expression that holds where it is wrong), ``got``, ``want`` and ``fix``; ``each`` (a list; the
rule is asked once for each ``item``); ``at`` (the variable to which it points). Beside the variables it may use
``host.drivers`` and the role's ``names``, worked out in their order.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.repository import Repository, RoleSource
from rackwright.kinds.role.promise import evaluate, named
from rackwright.schema import secret
from rackwright.schema.problem import Problem

_BARE = Repository({})
"""Rules need no templates."""


def refusals(source: RoleSource, os: str, given: Mapping[str, Any], drivers: tuple[str, ...] = ()) -> Iterator[Problem]:
    """Yield what contradicts itself in variables *given* by short names, each of its type.

    Args:
        drivers: The roles that bring drivers for the accelerators of the host.
    """
    variables = source.variables(os, secret.fill(given, secret.placeholder))
    names = named(source, {**variables, "host": {"drivers": drivers}}, _BARE)
    for rule in source.refusals:
        items = [{"item": item} for item in evaluate(rule["each"], names, _BARE)] if "each" in rule else [{}]
        for item in items:
            scope = {**names, **item}
            if evaluate(f"{{{{ {rule['when']} }}}}", scope, _BARE):
                got, want, fix = (str(evaluate(rule[part], scope, _BARE)) for part in ("got", "want", "fix"))
                yield Problem(got, want, fix, (rule["at"],) if "at" in rule else ())

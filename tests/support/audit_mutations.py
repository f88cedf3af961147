"""An audit of facts in which each property of each claim was changed, one after the other."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rackwright.audit.report import compare_each
from rackwright.core.scope import rehearsable_claims
from rackwright.facts.facts import Facts
from rackwright.stack import DeclaredResource, Stack
from tests.support.mutate import row_of

CONSEQUENCES = {
    "nic.present": "link:",  # the link of a port that is gone
    "link.mac": "nic:",
    "route.preferred": "RW-052 ",  # the better route is an undeclared one
    "package.installed": "package:",  # a package that is gone is not held
}
"""By property the beginning of what follows from its change and is found as well."""


@dataclass(frozen=True)
class Mutation:
    """Facts of one host in which one property of one claim differs."""

    declared: DeclaredResource
    path: str
    """Thing and property, such as `md:hot.bitmap`."""
    raw: dict[str, Any]


def mutations(
    stack: Stack, resources: Iterable[DeclaredResource], raws: Mapping[str, dict[str, Any]]
) -> Iterator[Mutation]:
    """Yield a mutation for each property of *resources*; *raws* has the facts of each host as declared."""
    for declared in resources:
        claims = rehearsable_claims(declared.kind.claims(declared.spec, stack.repository), declared.spec)
        for claim in claims:
            for name in claim.want:
                raw = copy.deepcopy(raws[declared.source])
                row = row_of(declared, claim.thing, name, raw, claims)
                row.differ(raw, claim.thing.partition(":")[2])
                yield Mutation(declared, f"{claim.thing}.{name}", raw)


def misjudged(stack: Stack, resources: Iterable[DeclaredResource], mutation: Mutation, rules: bool = True) -> list[str]:
    """Return what the audit of the host says besides the mutated property, and the property if it is not found.

    Args:
        rules: Whether undeclared things count; they need all resources of the host.
    """
    host = mutation.declared.source
    own = [each for each in resources if each.source == host]
    report = compare_each(stack, own, [(host, Facts(mutation.raw))], hosts=[host])
    found = [
        (result.name, item.path) for result in report.results for item in result.differences if not item.is_unknown
    ]
    expected = (mutation.declared.name, mutation.path)
    besides = [path for name, path in found if (name, path) != expected]
    besides += [f"{item.rule} {item.thing}" for item in report.undeclared if rules]
    sort, name = mutation.path.partition(":")[0], mutation.path.rpartition(".")[2]
    follows = CONSEQUENCES.get(f"{sort}.{name}")
    wrong = [path for path in besides if follows is None or not path.startswith(follows)]
    return wrong if expected in found else [f"{mutation.path} is not found", *wrong]

"""The search for undeclared things on the hosts of a stack."""

from collections.abc import Iterable, Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration, host_declaration
from rackwright.audit.undeclared.rule import Finding, Rule
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.log_chain import SeenHead
from rackwright.facts.view import UnknownFact
from rackwright.stack import DeclaredResource, Stack

MALFORMED = (TypeError, ValueError, KeyError, IndexError, AttributeError)


def is_searched(stack: Stack, host: str) -> bool:
    """Return whether *host* is searched.

    A host in maintenance is not: the comparison of its resources reports it. A fleet that uses the hosts of another one
    declares only its runs and servers, so the other fleet is searched instead.
    """
    return not stack.fleet.uses and host in stack.fleet.hosts and host not in stack.maintenance


def search_host(
    stack: Stack,
    host: str,
    resources: Iterable[DeclaredResource],
    facts: Facts,
    seen_heads: tuple[SeenHead, ...] | None = (),
) -> Iterator[tuple[Rule, Finding, bool]]:
    """Yield rule, finding, and whether the finding is unknown, for the *host* with these *resources* and *facts*."""
    declared = host_declaration(stack, host, resources, seen_heads)
    for rule in RULES.values():
        yield from ((rule, *each) for each in apply(rule, facts, declared))


def apply(rule: Rule, facts: Facts, declared: HostDeclaration) -> Iterator[tuple[Finding, bool]]:
    """Yield what *rule* finds, each thing once, and at the end why the rest is unknown."""
    if rule.scope in declared.not_rehearsable:
        return
    found = set()
    try:
        for finding in rule.search(facts, declared):
            if finding not in found:
                found.add(finding)
                yield finding, False
    except UnknownFact as reason:
        yield Finding(rule.subject, str(reason)), True
    except MALFORMED:  # a hostile host may send anything, also deep in a table that no view converts
        yield Finding(rule.subject, "the facts have a value of another form than the probe writes"), True

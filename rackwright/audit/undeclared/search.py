"""The search for undeclared things on the hosts of a stack."""

from collections.abc import Iterable, Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration, host_declaration
from rackwright.audit.undeclared.rule import Finding, Rule
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from rackwright.facts.log_chain import SeenHead
from rackwright.facts.view import UnknownFact
from rackwright.stack import DeclaredResource, Stack


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
    yield from search(facts, host_declaration(stack, host, resources, seen_heads))


def search(facts: Facts, declared: HostDeclaration) -> Iterator[tuple[Rule, Finding, bool]]:
    """Yield rule, finding, and whether the finding is unknown, by rule; no file has two rows.

    A rule about all files leaves out those that a rule about some of them has found, which says more about them.
    """
    found = {rule.id: list(apply(rule, facts, declared)) for rule in RULES.values()}
    seen: set[str] = set()
    for rule in sorted(RULES.values(), key=lambda rule: (rule.rest, rule.severity != "error")):
        if rule.rest:
            found[rule.id] = [each for each in found[rule.id] if each[1] or each[0].path not in seen]
        seen.update(finding.path for finding, is_unknown in found[rule.id] if finding.path and not is_unknown)
    for rule in RULES.values():
        yield from ((rule, *each) for each in found[rule.id])


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
    except Exception:  # a hostile host may send anything, also deep in a table that no view converts
        yield Finding(rule.subject, "the facts have a value of another form than the probe writes"), True

"""Rules about the audit log of a host, and the chain of its hashes."""

from collections.abc import Iterator

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import ADMIT, Finding, Rule
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact

CHAIN = "audit_log:chain"


def breaks(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the places at which the audit log differs from the chain on the host."""
    for each in facts.log_chain.breaks if facts.log_chain else ():
        name = each.place.partition(",")[0] if each.number is None else each.number
        yield Finding(f"audit_log:{name}", f"{each.sort}: {each.place}")


def contradiction(facts: Facts, declared: HostDeclaration) -> Iterator[Finding]:
    """Yield the chain if it does not continue the newest head from before these facts."""
    if declared.seen_heads is None and facts.log_chain:
        raise UnknownFact("what earlier audits saw: the operations log cannot be read")
    if not declared.seen_heads:
        return
    read_at = facts.finished_at - facts.clock_offset_seconds  # by the clock of the caller: a host can change its own
    seen = [each.head for each in declared.seen_heads if each.time < read_at]
    if not seen:
        return
    chain = facts.log_chain
    text = chain.contradiction(seen[-1]) if chain else f"no chain, and an earlier audit saw entry {seen[-1]['number']}"
    if text:
        yield Finding(CHAIN, text)


RULES = (
    Rule(
        "RW-140",
        "The audit log of a host is as it was when its chain recorded it.",
        "the audit log",
        "A changed, missing or early rotated part hides what people and tools did on the host.",
        f"Keep the files as evidence, and find out who was root on the host at that time, {ADMIT}",
        "NIST SP 800-92, section 4.2; auditd.conf(5)",
        breaks,
        severity="error",
        scope="kernel",
    ),
    Rule(
        "RW-141",
        "The chain of a host's audit log continues the chain that earlier audits saw.",
        "the chain of the audit log",
        "Root of the host has written the log and its chain again, or removed both.",
        "Keep the files as evidence; after a new installation, run `rackwright log accept STACK HOST --reason WHY`",
        "NIST SP 800-92, section 4.2",
        contradiction,
        severity="error",
        scope="kernel",
    ),
)

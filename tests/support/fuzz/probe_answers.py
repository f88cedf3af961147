"""Probe answers: parsed as facts, or `HostUnreachable`; whatever facts say, kinds observe, report and plan.

A value of another type than the probe writes is unknown, like one that the probe could not read.
"""

import base64
import json
import zlib

from hypothesis import strategies as st

from rackwright.core import diff as comparison
from rackwright.core.contract import UnknownValue
from rackwright.errors import UserError
from rackwright.facts import probe
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.shared.unknown_facts import refuse_unknown
from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data
from tests.support.recorded_hosts import RESOURCES, STACK, recorded

NAMES = sorted(RESOURCES)
FACTS = {host: recorded(host) for host in sorted({each.spec.host for each in RESOURCES.values()})}
ROLES = {name for name, each in RESOURCES.items() if each.token.endswith(":Role")}
DATA = 1 << 16
CLAIMS = {name: each.kind.claims(each.spec, STACK.repository) for name, each in RESOURCES.items()}


def use(name: str, facts: Facts, plan: bool) -> None:
    """Do with *facts* what an audit, a preview and a removal do for one resource."""
    declared, claims = RESOURCES[name], CLAIMS[name]
    found = declared.kind.observe(claims, facts)
    assert all(
        isinstance(value, UnknownValue) or value is not None for each in found.values() for value in each.values()
    )
    differences = comparison.diff(claims, found)
    json.dumps(declared.kind.report(declared.spec, facts))
    if plan:
        refuse_unknown(name, lambda: declared.kind.plan(declared.spec, differences, facts, STACK.repository))
    refuse_unknown(name, lambda: declared.kind.removal(declared.spec, facts, STACK.repository, consent=True))
    views(facts)


def views(facts: Facts) -> None:
    """Read every value that has a type, as commands do that show them."""
    for name in ("os", "memory_bytes", "pci", "users", "sockets", "resolvers", "gpus", "xids", "kernels", "taken_at"):
        try:
            getattr(facts, name)
        except UnknownFact as reason:
            assert str(reason)


def check(case: tuple[str, int, Mutations]) -> None:
    name, how, mutations = case
    facts = FACTS[RESOURCES[name].spec.host]
    plan = name not in ROLES or how % 32 == 0  # to plan a role takes fifty times as long as all the rest
    if how < DATA:
        changed = mutated_data(facts, mutations)
        if isinstance(changed, dict):
            use(name, Facts(changed), plan)
        return
    text = json.dumps(facts).encode()
    if how % 2:  # changed on the way
        content = b"a shell's words\n" + mutated_bytes(base64.b64encode(zlib.compress(text, 1)), mutations)
    else:  # changed before it was packed
        content = base64.b64encode(zlib.compress(mutated_bytes(text, mutations), 1))
    try:
        use(name, probe.parse(content, "gpu-01"), plan)
    except UserError as refused:
        assert refused.exit_status == 3


def run(count: int, number: int) -> None:
    names = st.sampled_from(NAMES)
    of_answers = st.one_of(
        st.tuples(names, st.integers(0, DATA - 1), of_data),
        st.tuples(names, st.integers(DATA, 2 * DATA - 1), of_bytes),
    )
    cases(count, number, of_answers, check)

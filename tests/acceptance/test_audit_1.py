"""Lines 1 to 3: deviations and undeclared things on a converged lab, the same in snapshots, and hosts that fail."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts import snapshot
from rackwright.stack import DeclaredResource, Stack, declare, load_stack
from tests.support.acceptance import line
from tests.support.audit_failures import FAILURES, problems
from tests.support.audit_lab import ALPHA, CONVERGED, HOSTS, converged_lab, findings
from tests.support.audit_mutations import misjudged, mutations
from tests.support.audit_seeds import RELOAD, Seeds, by_hand, generated
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.recorded_hosts import AT_ENDPOINTS, RESOURCES, STACK, recorded


@dataclass(frozen=True)
class Seeded:
    """The lab after all seeds, the seeds, and the report of the audit that saved its facts in *snapshots*."""

    lab: Lab
    seeds: Seeds
    report: str
    snapshots: Path


@pytest.fixture(scope="module")
def seeded() -> Iterator[Seeded]:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with converged_lab(Log("audit.1")) as lab:
        stack = load_stack(lab.stack, lab.directory)
        more = generated(stack, by_hand())
        seeds = {host: {**table, **more[host]} for host, table in by_hand().items()}
        for host, table in seeds.items():
            lab.log(f"{len(table)} seeds on {host}")
            lab.ssh(host, "\n".join([*table.values(), RELOAD]))
        snapshots = lab.directory / "facts"
        report = lab.rackwright("audit", lab.stack, "--json", "--save", str(snapshots), status=1)
        yield Seeded(lab, seeds, report.stdout, snapshots)


@line("audit", 1, part="hosts")
def test_all_deviations_and_undeclared_things_are_found_and_nothing_else(log: Log, seeded: Seeded) -> str:
    report = json.loads(seeded.report)
    expected = {path for table in seeded.seeds.values() for path in table}
    found = findings(report)
    need(not expected - found, f"not found: {sorted(expected - found)}")
    need(not found - expected, f"found besides: {sorted(found - expected)}")
    bare = [
        item["path"]
        for item in report["findings"]
        if not item["severity"] or (item["state"] == "undeclared" and not item["remedy"])
    ]
    need(not bare, f"without severity or remedy: {bare}")
    unmeant = [item["path"] for item in report["findings"] if item["state"] not in ("differs", "undeclared")]
    need(not unmeant, f"unknown: {unmeant}")
    undeclared = len(report["undeclared"])
    return f"{len(found)} of {len(expected)} found on {len(HOSTS)} hosts, {undeclared} of them undeclared, nothing else"


@line("audit", 1, part="facts")
def test_each_property_of_every_claim_is_found_by_itself(log: Log, seeded: Seeded) -> str:
    """Changed are the facts of the converged hosts, and those of recorded hosts, endpoints and clusters."""
    lab = seeded.lab
    stack = load_stack(lab.stack, lab.directory)
    of_lab = snapshot.load(lab.directory / CONVERGED, datetime.now(UTC))
    count = _judge(log, stack, declare(stack), {name: facts.raw for name, facts in of_lab.items()})
    others = (*RESOURCES.values(), *AT_ENDPOINTS.values())
    of_others = _judge(log, STACK, others, {each.source: recorded(each.source) for each in others}, whole=False)
    types = {each.token.rpartition(":")[2] for each in others}
    text = f"{of_others} of {len(others)} recorded resources: {', '.join(sorted(types))}"
    return f"{count} properties of {len(HOSTS)} converged hosts, and {text}"


def _judge(
    log: Log, stack: Stack, resources: Sequence[DeclaredResource], raws: Mapping[str, Any], whole: bool = True
) -> int:
    """Require that each mutation is found and nothing else, and return their number.

    Args:
        whole: Whether all resources of the host and the rules are judged, not only the mutated resource.
    """
    count = 0
    for mutation in mutations(stack, resources, raws):
        own = mutation.declared
        wrong = misjudged(stack, resources if whole else [own], mutation, rules=whole)
        need(not wrong, f"{own.name} {mutation.path} was changed: {', '.join(wrong)}")
        count += 1
    log(f"{count} properties")
    return count


@line("audit", 2)
def test_snapshots_give_the_same_report_with_all_hosts_off(log: Log, seeded: Seeded) -> str:
    lab = seeded.lab
    lab.ssh(ALPHA, "systemctl enable ssh.service")  # a seed disabled it, and line 3 needs the host again
    lab.down()
    again = lab.rackwright("audit", lab.stack, "--json", "--snapshot", str(seeded.snapshots), status=1)
    need(again.stdout == seeded.report, "the report from snapshots differs from that of the hosts")
    return f"{len(again.stdout)} bytes of report, equal with {len(HOSTS)} hosts off"


@line("audit", 3)
def test_facts_that_a_host_does_not_give_are_unknown_and_never_as_declared(log: Log, seeded: Seeded) -> str:
    lab = seeded.lab
    lab.start()
    before = lab.audit()
    unknown = 0
    for name, failure in FAILURES.items():
        log(name)
        with failure.fail(lab):
            report = lab.audit()
        wrong = problems(failure, before, report)
        need(not wrong, f"{name}: {'; '.join(wrong)}")
        unknown += sum(item["state"] in ("unknown", "not reached") for item in report["findings"])
    return f"{len(FAILURES)} failures of a host: {unknown} findings are unknown or not reached, none is wrong"

"""Composition: roles are applied together on one host, and what they share goes with the last of them."""

import json
import os
import random

import pytest

from tests.support import role_sets
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log

LIGHT = ("load_balancer", "mlflow", "node_exporter", "object_store", "rdma")
"""Roles that a container carries, without drives, GPUs or a kernel of its own, in minutes."""
SHARING = ("mlflow", "object_store")
SEED, TRIPLES = 41, 2


def triples() -> list[tuple[str, ...]]:
    """Return a seeded sample of triples, the first with two roles that share a package."""
    chance = random.Random(SEED)
    found: list[tuple[str, ...]] = [(*SHARING, chance.choice([role for role in LIGHT if role not in SHARING]))]
    while len(found) < TRIPLES:
        triple = tuple(sorted(chance.sample(LIGHT, 3)))
        if set(triple) not in map(set, found):
            found.append(triple)
    return found


@line("deploy", "compose", part="triples")
def test_roles_of_a_host_come_together_and_what_they_share_goes_with_the_last(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    orders = {}
    for number, triple in enumerate(triples()):
        orders[f"forward-{number}"] = triple
        orders[f"backward-{number}"] = triple[::-1]
    hosts = {name: role_sets.host(number, triple) for number, (name, triple) in enumerate(orders.items(), start=1)}
    for host in hosts.values():
        host["roles"]["base"] = {"security_updates": False}
    fleet = json.dumps({"fleet": "together", "hosts": hosts})
    with Lab(log.empty_directory() / "project", fleet, log, containers=[*hosts], mirrors=True) as lab:
        lab.start()
        before = {name: _packages(lab, name) for name in hosts}
        log(f"up of {len(hosts)} hosts")
        lab.up()
        need("unchanged" in lab.up().stdout or lab.audit_differences(status=0) == set(), "the second up changed a host")
        need(lab.audit_differences(status=0) == set(), "something differs after up")
        shared = 0
        for step in range(3):
            removed = {name: order[step] for name, order in orders.items()}
            log(f"removal of {', '.join(f'{role} of {name}' for name, role in removed.items())}")
            _remove(lab, removed)
            need(lab.audit_differences(status=0) == set(), "something differs after a removal")
            for name, order in orders.items():
                rest = order[step + 1 :]
                if set(SHARING) <= set(order):
                    there = "python3-venv" in _packages(lab, name)
                    wanted = bool(set(rest) & set(SHARING))
                    need(there is wanted, f"{name}: python3-venv is {'there' if there else 'gone'} beside {rest}")
                    shared += 1
        left = {name: _packages(lab, name) - before[name] for name in hosts}
        named = {"python3-venv", "nginx", "prometheus-node-exporter"}
        for name, order in orders.items():
            need(not left[name] & named, f"{name}: {', '.join(left[name] & named)} stayed after {order}")
    sample = "; ".join(", ".join(triple) for triple in triples())
    return (
        f"{TRIPLES} of 10 triples ({sample}) on {len(orders)} hosts, {3 * len(orders)} removals in both orders, "
        f"{shared} looks at a shared package"
    )


def _packages(lab: Lab, host: str) -> set[str]:
    return set(
        lab.ssh(host, "dpkg-query -W -f '${binary:Package} ${db:Status-Status}\\n' | sed -n 's/ installed$//p'").split()
    )


def _remove(lab: Lab, roles: dict[str, str]) -> None:
    def change(content: dict[str, dict[str, dict[str, dict[str, object]]]]) -> None:
        for name, role in roles.items():
            del content["hosts"][name]["roles"][role]

    lab.edit(change)
    lab.up()


@line("deploy", "compose", part="pairs")
def test_every_pair_of_roles_is_accepted_or_refused_for_a_reason_that_a_page_has(log: Log) -> str:
    refused = role_sets.refused_pairs()
    need(bool(refused) and all(refused.values()), "a refused pair has no reason")
    done = log.run([str(ROOT / ".venv/bin/pytest"), "-q", "tests/stack/test_roles_together.py"], ROOT)
    need(done.returncode == 0, "a pair is judged otherwise than the page has it")
    pairs = len(role_sets.PAIRS)
    return f"{pairs} pairs: {pairs - len(refused)} stand together, {len(refused)} are refused with a reason"

"""Composition: roles are applied together on one host, and what they share goes with the last of them."""

import json
import os
import random
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support import role_sets
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.object_store import certificates

LIGHT = (
    "alertmanager", "container_runtime", "drive_exporter", "health_exporter", "journal_receiver",
    "journal_sender", "load_balancer", "metrics_proxy", "mlflow", "node_exporter", "object_store", "postgresql",
    "prometheus", "rdma", "registry", "service_exporter",
)  # fmt: skip
"""Roles that a container carries, without drives, GPUs or a kernel of its own, in minutes.

Role `access` is not among them: its removal leaves accounts and logins as they are, and audits report them.
"""
SHARING = ("mlflow", "object_store")
"""Two roles that share a package."""
SEED, SIZE = 41, 3
PACKAGES = "dpkg-query -W -f '${binary:Package} ${db:Status-Status}\\n' | sed -n 's/ installed$//p'"
OWNERS = 'cd /var/lib/rackwright/owners && for file in role-*.json; do echo "$file $(cat $file)"; done'


def triples() -> list[tuple[str, ...]]:
    """Return a seeded sample of triples that has each light role; the first has two roles that share a package."""
    chance = random.Random(SEED)
    others = [role for role in LIGHT if role not in SHARING]
    chance.shuffle(others)
    row = [*SHARING, *others]
    while len(row) % SIZE:
        row.append(chance.choice([role for role in LIGHT if role not in row[-SIZE:]]))
    return [tuple(row[first : first + SIZE]) for first in range(0, len(row), SIZE)]


def variables(pem: Mapping[str, str], address: str) -> dict[str, dict[str, Any]]:
    """Return the variables of each role on a host with *address*: as in the samples, with a true certificate."""
    found = role_sets.samples()
    tls = {"certificate": pem["host.crt"], "key": {"secret": "host_tls"}}
    found["base"] = {"security_updates": False}
    found["postgresql"] |= tls
    for role in ("object_store", "registry"):
        found[role] |= {**tls, "authority": pem["authority.crt"], "address": address}
    found["object_store"]["volume_mib"] = 64
    return found


def declare(orders: Mapping[str, tuple[str, ...]], pem: Mapping[str, str]) -> dict[str, Any]:
    """Return a fleet with a host for each of *orders*, with the roles of it."""
    hosts = {}
    for number, (name, order) in enumerate(orders.items(), start=1):
        address = f"10.145.0.{number}"
        host = role_sets.host(number, order, variables(pem, address))
        nic = {"name": "fabric0", "mac": f"52:54:00:00:41:{number:02x}", "addresses": [f"{address}/24"]}
        hosts[name] = {**host, "network": {}, "nics": [nic]}
    return {"fleet": "together", "mirror": {}, "hosts": hosts}


@line("deploy", "compose", part="triples")
def test_roles_of_a_host_come_together_and_what_they_share_goes_with_the_last(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    orders = {}
    for number, triple in enumerate(triples()):
        orders[f"forward-{number}"] = triple
        orders[f"backward-{number}"] = triple[::-1]
    directory = log.empty_directory()
    pem = certificates(directory, [f"10.145.0.{number}" for number in range(1, len(orders) + 1)])
    text = json.dumps(declare(orders, pem))
    with Lab(directory / "project", text, log, containers=[*orders]) as lab:
        lab.pulumi("stack", "init", status=0)
        lab.set_secret("host_tls", pem["host.key"])
        lab.rackwright("toolchain", "registry", status=0)
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.start()
        before = {name: _packages(lab, name) for name in orders}
        log(f"up of {len(orders)} hosts")
        lab.up()
        _settled(lab)
        shared = sum(_remove(lab, orders, step, before) for step in range(SIZE))
        need(shared, "no triple shares a package")
    sample = "; ".join(", ".join(triple) for triple in triples())
    return (
        f"{len(triples())} triples of {len(LIGHT)} roles ({sample}) on {len(orders)} hosts, {SIZE * len(orders)}"
        f" removals in both orders, {shared} looks at a package that a role shared"
    )


def _settled(lab: Lab) -> None:
    """A second `up` changes nothing, and nothing differs or is unknown."""
    done = lab.up()
    report = lab.audit()
    odd = [
        f"{each['host']} {each['path']}"
        for each in report["findings"]
        # a package's own unit stays masked after the role, as the pages of the roles say
        if not (each["state"] == "undeclared" and str(each["found"]).startswith("a link to /dev/null"))
    ]
    need(not odd, f"after that differ, or are unknown or undeclared: {', '.join(odd[:5])}")
    need("unchanged" in done.stdout and "updated" not in done.stdout, f"the second up says {done.stdout[-300:]}")


def _remove(lab: Lab, orders: Mapping[str, tuple[str, ...]], step: int, before: Mapping[str, set[str]]) -> int:
    """Remove a role of each host; return how many packages stayed for another role.

    A package of the role is gone unless the host had it before, or a role that is left needs it.
    """
    removed = {name: order[step] for name, order in orders.items()}
    lab.log(f"removal of {', '.join(f'{role} of {name}' for name, role in removed.items())}")
    needed = {name: _needed(lab, name) for name in orders}

    def change(content: Any) -> None:
        for name in orders:
            rest = set(role_sets.closure(orders[name][step + 1 :]))
            for gone in set(content["hosts"][name]["roles"]) - rest - {"base"}:
                del content["hosts"][name]["roles"][gone]

    lab.edit(change)
    lab.up()
    _settled(lab)
    shared = 0
    for name in orders:
        rest = {package for packages in _needed(lab, name).values() for package in packages}
        own = {package for packages in needed[name].values() for package in packages} - before[name]
        there = _packages(lab, name)
        need(rest <= there, f"{name}: {', '.join(sorted(rest - there))} went with {removed[name]}")
        left = (own - rest) & there
        need(not left, f"{name}: {', '.join(sorted(left))} stayed after {removed[name]}")
        shared += len(own & rest & set(needed[name].get(removed[name], ())))
    return shared


def _packages(lab: Lab, host: str) -> set[str]:
    return set(lab.ssh(host, PACKAGES).split())


def _needed(lab: Lab, host: str) -> dict[str, set[str]]:
    """Return the packages that each role of a host needs, as its owner file has them."""
    found = {}
    for text in lab.ssh(host, OWNERS).splitlines():
        file, content = text.split(maxsplit=1)
        found[file.removeprefix("role-").removesuffix(".json")] = set(json.loads(content).get("packages", ()))
    return found


@line("deploy", "compose", part="pairs")
def test_every_pair_of_roles_is_accepted_or_refused_for_a_reason_that_a_page_has(log: Log) -> str:
    refused = role_sets.refused_pairs()
    need(bool(refused) and all(refused.values()), "a refused pair has no reason")
    done = log.run([str(ROOT / ".venv/bin/pytest"), "-q", "tests/stack/test_roles_together.py"], ROOT)
    need(done.returncode == 0, "a pair is judged otherwise than the page has it")
    pairs = len(role_sets.PAIRS)
    return f"{pairs} pairs: {pairs - len(refused)} stand together, {len(refused)} are refused with a reason"

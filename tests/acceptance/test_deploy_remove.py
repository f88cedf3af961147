"""Whole deployments are removed: `destroy` with consents leaves hosts as they were found, but for a fixed list."""

import json
from typing import Any

from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import need
from tests.support.log import Log
from tests.support.staying import reasons, without_reason


def removed(lab: Deployment) -> str:
    """Set up the hosts, remove everything with consents, and compare all facts with those from before."""
    lab.log("facts of the empty hosts")
    before, after = lab.directory / "before", lab.directory / "after"
    lab.rackwright("audit", lab.stack, "--json", "--save", str(before), status=1)
    lab.log("the first up")
    lab.up()
    tiers = _allow(lab)
    lab.log(f"consents to {tiers} tiers")
    lab.up()
    lab.log("destroy")
    lab.rackwright("destroy", lab.stack, status=0)
    again = lab.rackwright("destroy", lab.stack, status=0)
    need("destroys" not in again.stdout, f"the second destroy says {again.stdout[-300:]}")
    lab.rackwright("audit", lab.stack, "--json", "--save", str(after), status=1)
    report = json.loads(lab.rackwright("compare", str(before), str(after), "--json", status=1).stdout)
    need(not report["missing"], f"not compared: {report['missing']}")
    left = [*without_reason(report["changes"])]
    for each in left:
        lab.log.write(f"{each['host']} {each['path']}: {each.get('before')} → {each.get('after')}")
    texts = sorted({f"{each['host']} {each['path']}" for each in left})
    need(not texts, f"{len(texts)} facts are other ones: {', '.join(texts[:8])}")
    return (
        f"{len(report['hosts'])} hosts, {tiers} tiers: {len(report['changes'])} facts differ,"
        f" each by one of {sum(map(len, reasons().values()))} reasons"
    )


def _allow(lab: Deployment) -> int:
    """Consent to the removal of each tier that rackwright made, and return how many there are."""
    count = 0

    def change(fleet: Any) -> None:
        nonlocal count
        for owner in [*fleet.get("groups", {}).values(), *fleet["hosts"].values()]:
            for tier in owner.get("tiers", {}).values():
                if not tier.get("provided"):
                    tier["destroy"] = "allowed"
                    count += 1

    lab.edit(change)
    return count


@line("deploy", "factory", part="remove")
def test_a_factory_is_removed_from_its_hosts(log: Log) -> str:
    with deployment(log, "factory") as lab:
        return f"{removed(lab)}; {lab.memory}"


@line("deploy", "hospital", part="remove")
def test_a_hospital_is_removed_from_its_hosts(log: Log) -> str:
    with deployment(log, "hospital") as lab:
        return f"{removed(lab)}; {lab.memory}"


@line("deploy", "bank", part="remove")
def test_a_bank_is_removed_from_its_hosts(log: Log) -> str:
    with deployment(log, "bank") as lab:
        return f"{removed(lab)}; {lab.memory}"

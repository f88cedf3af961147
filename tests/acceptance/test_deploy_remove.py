"""Whole deployments are removed: `destroy` with consents leaves hosts as they were found, but for a fixed list."""

import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import need
from tests.support.log import Log

STAYING = Path(__file__).with_name("staying.yaml")
"""Facts that may be added or changed after a removal: the reason by the pattern of a fact's path."""


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
    staying = {sort: [re.compile(one) for one in reasons] for sort, reasons in YAML(typ="safe").load(STAYING).items()}
    left = [each for each in report["changes"] if not _stays(each, staying)]
    for each in left:
        lab.log.write(f"{each['host']} {each['path']}: {each.get('before')} → {each.get('after')}")
    texts = sorted({f"{each['host']} {each['path']}" for each in left})
    need(not texts, f"{len(texts)} facts are other ones: {', '.join(texts[:8])}")
    return (
        f"{len(report['hosts'])} hosts, {tiers} tiers: {len(report['changes'])} facts differ,"
        f" each by one of {sum(map(len, staying.values()))} reasons"
    )


def _stays(change: dict[str, Any], staying: dict[str, list[re.Pattern[str]]]) -> bool:
    """Return whether a fact may differ: as one that was absent before, or as another value."""
    sort = "added" if change.get("before") is None else "changed"
    return any(pattern.fullmatch(change["path"]) for pattern in staying[sort])


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

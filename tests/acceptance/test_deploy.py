"""Whole deployments on their twins: a hospital, a bank and a factory, from an empty directory to hosts without them."""

import re
from typing import Any

from tests.support.acceptance import line
from tests.support.deployments import Deployment, deployment
from tests.support.expect import eventually, need
from tests.support.lab import format_claims
from tests.support.log import Log
from tests.support.login_machine import new_key
from tests.support.monitoring_lab import up

PERSON = "olga"
CHANGED = re.compile(r"^ +\S+ (\d+ (?:created|updated|deleted|replaced))$", re.MULTILINE)
UNCHANGED = re.compile(r"^ +\d+ unchanged$", re.MULTILINE)
"""Lines of Pulumi's summary of what an `up` did."""


def first_day(lab: Deployment) -> str:
    """Run the first `up`, the second one and the audit, and look at the page of the audit."""
    lab.log("the first up")
    lab.up()
    lab.log("the second up")
    done = lab.up()
    need(not (left := lab.audit_differences(status=0)), f"after `up` differ {format_claims(left)}")
    report = lab.audit(status=0)
    unknown = [each["name"] for each in report["resources"] if any(one["unknown"] for one in each["differences"])]
    need(not unknown, f"unknown are claims of {', '.join(unknown)}")
    changed = CHANGED.findall(done.stdout)
    need(not changed and UNCHANGED.search(done.stdout), f"the second up: {changed or done.stdout[-300:]}")
    page = lab.rackwright("audit", lab.stack, "--format", "html", status=0).stdout
    missing = [name for name in lab.fleet.hosts if name not in page]
    need(not missing, f"the page of the audit lacks {', '.join(missing)}")
    targets = _watched(lab)
    _hire(lab)
    names = {each["name"] for each in report["resources"]}
    hosts = len(lab.fleet.hosts)
    return (
        f"{len(lab.written)} files written, {hosts} hosts, {len(names)} resources, 1 page of the audit, {targets}"
        " targets of Prometheus up, 1 person"
    )


def _watched(lab: Deployment) -> int:
    """Wait until Prometheus has read each target that follows from the fleet, and return how many there are."""
    lab.log("the targets of monitoring")
    fleet = lab.fleet
    assert fleet.monitoring
    monitor = fleet.monitoring.host
    wanted = {(each["instance"], each["job"]) for each in fleet.hosts[monitor].roles["prometheus"]["targets"]}
    need(wanted, "Prometheus has no targets")

    def are_up() -> bool:
        found = up(lab, monitor)
        missing = sorted(target for target in wanted if not found.get(target))
        lab.log.write(f"targets that are not up: {missing}")
        return not missing

    eventually(are_up, "all targets are up")
    return len(wanted)


def _hire(lab: Deployment) -> None:
    """Declare an operator, who needs a second factor, and give it in a terminal."""
    key = new_key(lab.directory / PERSON)

    def declare(fleet: Any) -> None:
        [access] = [
            group["roles"]["access"] for group in fleet["groups"].values() if "access" in group.get("roles", {})
        ]
        access["people"] = [{"name": PERSON, "function": "operator", "keys": [key]}]

    lab.log("a person with a second factor")
    lab.edit(declare)
    lab.up(status=1)  # the person cannot log in yet
    lab.enrol(PERSON)
    lab.up()
    need(not (left := lab.audit_differences(status=0)), f"with {PERSON} differ {format_claims(left)}")


@line("deploy", "factory", part="day-0")
def test_a_factory_comes_up_from_an_empty_directory(log: Log) -> str:
    with deployment(log, "factory") as lab:
        return f"{first_day(lab)}; {lab.memory}"


@line("deploy", "hospital", part="day-0")
def test_a_hospital_comes_up_from_an_empty_directory(log: Log) -> str:
    with deployment(log, "hospital") as lab:
        return f"{first_day(lab)}; {lab.memory}"


@line("deploy", "bank", part="day-0")
def test_a_bank_comes_up_from_an_empty_directory(log: Log) -> str:
    with deployment(log, "bank") as lab:
        return f"{first_day(lab)}; {lab.memory}"

"""The audit of the example rack, from facts recorded on its twin."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackwright.audit.formats import render
from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.finding import collect
from rackwright.audit.report import AuditReport, UndeclaredThing, as_json, compare
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.fleet.resource_place import ResourcePlaces
from rackwright.kinds.table import KINDS
from tests.support.inventory import OTHERS, with_nothing_more
from tests.support.recorded_hosts import ALSO, STACK, recorded

HOSTS = tuple(STACK.fleet.hosts)
GONE = HostUnreachable(Diagnostic(HOSTS[0], "no answer", "it answers at its address", "Switch it on"))


@pytest.fixture
def raw() -> dict[str, Any]:
    return {host: with_nothing_more(recorded(host), OTHERS) for host in HOSTS}


def audited(raw: dict[str, Any], **instead: HostUnreachable) -> AuditReport:
    return compare(STACK, {**{host: Facts(facts) for host, facts in raw.items()}, **instead})


def array(raw: dict[str, Any], host: str) -> dict[str, Any]:
    """Return one array of *host*, to be changed."""
    found: dict[str, Any] = next(array for array in raw[host]["arrays"] if array["bitmap"] == "internal")
    return found


def test_a_rack_as_declared_has_no_difference(raw):
    report = audited(raw)

    assert report.exit_status == 0
    assert all(result.matches and not result.differences for result in report.results)


def test_an_audit_computes_the_claims_of_each_resource_once(monkeypatch):
    """
    The check that each thing has one owner, which hosts with roles need, and the comparison share them.
    """
    computed = Counter[str]()
    for kind in {type(kind) for kind in KINDS.values()}:

        def count(kind: Any, spec: Any, repository: Any, compute: Any = kind.claims) -> Any:
            computed[kind.id(spec)] += 1
            return compute(kind, spec, repository)

        monkeypatch.setattr(kind, "claims", count)
    with_roles = next(stack for stack in ALSO if any(host.roles for host in stack.fleet.hosts.values()))
    stack = replace(with_roles, repository=replace(with_roles.repository))  # a house that has computed nothing

    report = compare(stack, dict.fromkeys(stack.fleet.hosts, GONE))

    assert computed == dict.fromkeys((result.name for result in report.results), 1)


def test_a_difference_is_reported_by_its_path(raw):
    """
    One resource, under its claim and property, with what was wanted and found.
    """
    changed = array(raw, HOSTS[0])
    changed["bitmap"] = "none"

    report = audited(raw)

    assert report.exit_status == 1
    assert [item.path for result in report.results for item in result.known_differences] == [
        f"md:{changed['md_name']}.bitmap"
    ]
    [drift] = [item for resource in as_json(report)["resources"] for item in resource["differences"]]
    assert (drift["property"], drift["unknown"], drift["declared"], drift["actual"]) == (
        "bitmap",
        False,
        "internal",
        "none",
    )


def test_unknown_is_neither_fine_nor_different(raw):
    array(raw, HOSTS[0])["bitmap"] = {"unknown": "permission denied"}

    report = audited(raw)

    assert report.exit_status == 3
    assert [item.name for result in report.results for item in result.unknown_differences] == ["bitmap"]


def test_a_host_that_is_off_hides_no_difference_of_another(raw):
    array(raw, HOSTS[1])["bitmap"] = "none"

    report = audited(raw, **{HOSTS[0]: GONE})

    assert report.exit_status == 1
    assert {result.name.split("/")[0] for result in report.results if result.not_reached} == {HOSTS[0]}
    assert audited({HOSTS[1]: with_nothing_more(recorded(HOSTS[1]), OTHERS)}, **{HOSTS[0]: GONE}).exit_status == 3


def test_work_of_md_is_reported_with_its_remaining_time(raw):
    """
    It holds, and the report says how long that takes.
    """
    array(raw, HOSTS[0]).update(sync_action="resync", sync_completed="500 / 1000000", sync_speed_kib=100)

    report = audited(raw)

    assert report.exit_status == 0
    assert [result.notice for result in report.results if result.notice] == ["syncing: 0.1 %, 1 h 24 min left"]


def test_a_result_that_is_no_property_of_a_host_changes_no_status(raw):
    facts = {host: Facts(found) for host, found in raw.items()}
    report = compare(STACK, facts, notices={"digits": "digits@champion is digits/8, another model by now"})
    text = render("terminal", AuditDocument(report, ()))

    assert report.exit_status == 0
    assert as_json(report)["notices"] == {"digits": "digits@champion is digits/8, another model by now"}
    assert "notice: digits: digits@champion is digits/8, another model by now" in text


def test_a_host_in_maintenance_is_not_compared_and_says_why(raw):
    """
    In plain sight: under every resource of it, and without any evidence.
    """
    del raw[HOSTS[0]]
    stack = replace(STACK, maintenance={HOSTS[0]: "in maintenance until 2099-01-31: a new mainboard"})

    report = compare(stack, {host: Facts(facts) for host, facts in raw.items()})

    assert report.exit_status == 0
    notices = {result.name: result.notice for result in report.results if result.name.split("/")[0] == HOSTS[0]}
    assert set(notices.values()) == {"in maintenance until 2099-01-31: a new mainboard"}


FOUND = UndeclaredThing("gpu-01", "RW-001", "file:/etc/cron.d/x", "a file", "warning", "Remove it", None)


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (FOUND, 1),
        (replace(FOUND, allowed="the site's backup"), 0),
        (replace(FOUND, is_unknown=True, found="permission denied"), 3),
        (replace(FOUND, is_unknown=True, found="permission denied", allowed="no sudo there"), 0),
    ],
)
def test_an_undeclared_thing_counts_unless_a_line_admits_it(item, status):
    report = AuditReport("lab", (), undeclared=(item,))

    assert report.exit_status == status
    [data] = as_json(report)["undeclared"]
    assert (data["rule"], data["unknown"], data["allowed"]) == ("RW-001", item.is_unknown, item.allowed)


def test_the_terminal_shows_undeclared_things_with_their_remedy():
    report = AuditReport("lab", (), undeclared=(FOUND, replace(FOUND, thing="file:/etc/cron.d/y", allowed="a backup")))
    findings = collect(report, ResourcePlaces(Path()), "")
    text = render("terminal", AuditDocument(report, findings))

    assert "undeclared RW-001 file:/etc/cron.d/x [1]" in text
    assert "[1]  Remove it" in text
    assert "1 undeclared, 1 allowed" in text

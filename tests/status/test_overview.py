"""The parts of a stack in `rackwright status`, from recorded facts: tiers, GPUs, runs and servers."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from rackwright.audit import report
from rackwright.cli import status
from rackwright.cli.status import Look
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.stack import Stack, declare
from rackwright.status import overview
from rackwright.status.alerts import FiringAlert
from tests.support.json_documents import checked
from tests.support.recorded_hosts import ALSO, OTHERS, STACK, recorded

GONE = HostUnreachable(Diagnostic("gpu-01", "no answer", "it answers at its address", "Switch it on"))


def look(stack: Stack, **others: Any) -> Look:
    """Return a look at *stack* as it was recorded, with *others* in the place of facts, by host."""
    found: dict[str, Any] = {host: Facts(recorded(host)) for host in stack.fleet.hosts}
    found |= {host.replace("_", "-"): other for host, other in others.items()}
    resources = tuple(declare(stack))
    compared = report.compare_each(stack, resources, found.items())
    return Look(compared, overview.observe(stack, resources, found))


def printed(shown: Look, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(*status._lines(shown, None), sep="\n")
    return console.file.getvalue()  # type: ignore[attr-defined]


def recorded_stack(name: str) -> Stack:
    return ALSO[OTHERS.index(f"{name}.yaml")]


def degraded(host: str, array: str) -> Facts:
    raw = recorded(host)
    [found] = [each for each in raw["arrays"] if each["md_name"] == array]
    found["degraded"] = 1
    found["members"] = found["members"][1:]
    return Facts(raw)


def test_each_tier_has_its_state_and_a_degraded_one_says_so() -> None:
    [host, *_] = STACK.fleet.hosts
    shown = look(STACK)
    states = {row.name: row.state for row in shown.overview.tiers}

    assert len(states) == sum(len(each.tiers) for each in STACK.fleet.hosts.values())
    assert {*states.values()} == {"optimal"}
    worse = look(STACK, **{host: degraded(host, f"{host}:hot")}).overview.tiers
    assert [(row.name, row.state) for row in worse if row.state != "optimal"] == [(f"{host}/hot", "degraded")]


def test_a_host_that_is_not_reached_leaves_its_tiers_and_gpus_unknown() -> None:
    [host, *_] = STACK.fleet.hosts
    shown = look(STACK, **{host: GONE})
    away = [row for row in shown.overview.tiers if row.name.startswith(f"{host}/")]

    assert away and {(row.state, row.details) for row in away} == {("unknown", "not reached: no answer")}
    assert [row.host for row in shown.overview.gpus.rows if row.not_reached] == [host]
    assert [row[1:4] for row in status._gpu_lines(shown.overview.gpus) if row[0] == host] == [("?", "?", "?")]
    assert shown.compared.exit_status == 3


def test_a_host_in_maintenance_is_not_looked_at_and_not_fine() -> None:
    [host, *_] = STACK.fleet.hosts
    resting = replace(STACK, maintenance={host: "in maintenance until tomorrow"})
    resources = tuple(declare(resting))
    others = {each: Facts(recorded(each)) for each in STACK.fleet.hosts if each != host}
    tiers = overview.observe(resting, resources, others).tiers

    assert {row.details for row in tiers if row.name.startswith(f"{host}/")} == {
        "not reached: in maintenance until tomorrow"
    }


@pytest.mark.parametrize(("name", "part", "text"), [
    ("trained", "digits", "running, step"), ("served", "digits", "ready, version"),
])  # fmt: skip
def test_runs_and_servers_have_a_line_for_each_host_or_run(name: str, part: str, text: str) -> None:
    shown = printed(look(recorded_stack(name)))

    assert [line for line in shown.splitlines() if line.startswith(part) and text in line]


@pytest.mark.parametrize("width", [40, 80])
def test_the_tables_fit_a_terminal(width: int) -> None:
    for stack in (STACK, recorded_stack("trained"), recorded_stack("served")):
        lines = printed(look(stack), width).splitlines()

        assert max(map(len, lines)) <= width
        assert lines[0] == "last change: none"


def test_alerts_that_fire_are_shown_and_unknown_ones_are_not_none() -> None:
    fires = FiringAlert("HostNotReached", "gpu-02", "critical", "gpu-02 does not answer", "2026-12-01", True, ("team",))
    seen = look(STACK)

    assert "HostNotReached  gpu-02  critical  gpu-02 does not answer (held back)" in printed(
        replace(seen, alerts=(fires,))
    )
    assert "unknown" in printed(replace(seen, alerts="gpu-01: Alertmanager: no answer")).splitlines()[-1]
    assert "alert" not in printed(seen)
    for alerts in ((fires,), "gpu-01: Alertmanager: no answer"):
        assert checked("status", status._as_json(STACK, replace(seen, alerts=alerts), None))["alerts"]


def test_programs_get_the_same() -> None:
    for stack in (STACK, recorded_stack("trained"), recorded_stack("served")):
        shown = look(stack)
        document = checked("status", status._as_json(stack, shown, None))

        assert [*document["hosts"]] == sorted(stack.fleet.hosts)
        assert [*document["tiers"]] == [row.name for row in shown.overview.tiers]
        assert [*document["runs"]] == [*stack.fleet.runs] and [*document["servers"]] == [*stack.fleet.servers]

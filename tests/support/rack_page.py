"""Pages of `status` for stacks of any size, from recorded facts: sound ones, and ones whose texts attack the page."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import rack
from rackwright.audit.formats.document import AuditDocument
from rackwright.audit.formats.drawing import draw_stack
from rackwright.audit.formats.finding import collect
from rackwright.audit.report import UndeclaredThing, compare_each
from rackwright.errors import Diagnostic, HostUnreachable
from rackwright.facts.facts import Facts
from rackwright.fleet import load_fleet
from rackwright.fleet.resource_place import ResourcePlaces
from rackwright.stack import Stack, declare
from rackwright.status import overview, page
from rackwright.status.alerts import FiringAlert
from rackwright.status.page import Change, Sight
from rackwright.status.runs import RunReport
from rackwright.status.servers import ServerReport
from tests.support import recorded_facts
from tests.support.audit_document import ATTACK
from tests.support.recorded_hosts import STACK

FLEET = """\
fleet: rack
groups:
  storage:
    os: debian-12
    tiers:
      hot: {level: raid10, filesystem: xfs, mount: /srv/hot}
      warm: {level: raid6, filesystem: xfs, mount: /srv/warm}
hosts:
"""
HOST = """\
  {name}:
    group: storage
    profile: {profile}
    address: 192.0.2.{number}
    identity: {{serial: RW-{name}}}
{place}    drives:
      - {{serial: {name}-BOOT, boot: true}}
{drives}    nics:
      - {{name: fabric0, mac: "{mac}", mtu: 9000, addresses: [10.30.0.{number}/16]}}
"""
HEIGHTS = (4, 4, 2, 1)
HOSTS_OF_RACK = 16
RUNNING = {"outcome": "running", "step": 1200, "steps": 5000, "loss": 2.13, "eta_seconds": 5400, "checkpoint": 1000}
READY = {"outcome": "ready", "version": "3f2a", "requests": 812, "p50_ms": 41.0, "p99_ms": 230.0}


def stack(directory: Path, count: int) -> Stack:
    """Return a stack of *count* hosts with 8 GPUs on every second one, in racks of 16; each eighth one has no rack."""
    text = FLEET + "".join(_host(number) for number in range(1, count + 1))
    file = directory / "fleet.yaml"
    file.write_text(text)
    return replace(STACK, name="rack", fleet=load_fleet(file, STACK.repository.roles), fleet_file=file, twin=None)


def _host(number: int) -> str:
    name, before = f"node-{number:03}", (number - 1) % HOSTS_OF_RACK
    unit = 1 + sum(HEIGHTS[each % 4] for each in range(before))
    letter = "abcdefgh"[(number - 1) // HOSTS_OF_RACK]
    place = f"    rack: {{name: {letter}, unit: {unit}, height: {HEIGHTS[before % 4]}}}\n" if number % 8 else ""
    drives = "".join(
        f"      - {{serial: {name}-{bus.upper()}{each}, bus: {bus}, size: 512MB, tier: {tier}}}\n"
        for bus, tier in (("nvme", "hot"), ("sas", "warm"))
        for each in range(4)
    )
    profile = "virtual" if number % 2 else "training-h100-pcie"
    return HOST.format(name=name, number=number, profile=profile, place=place, drives=drives, mac=rack.mac(name))


def facts(name: str) -> dict[str, Any]:
    """Return raw facts of a host of `stack`, with 8 GPUs at work."""
    raw = copy.deepcopy(rack.facts(name))
    board = recorded_facts.gpus()["gpus"][1]
    raw["gpus"] = [
        {**copy.deepcopy(board), "index": n, "uuid": f"GPU-{n}", "pci_address": f"0000:{16 + n:02x}:00.0"}
        for n in range(8)
    ]
    raw["gpu_assignments"] = {"run-letters": {"fleet": "models", "gpus": ["0", "1"], "uuids": []}}
    raw["xids"] = []
    raw["hardware"]["memory_bytes"] = 2_200_000_000_000
    raw["hardware"]["pci"] = ["10de:2331"] * 8
    return raw


def make_sight(of: Stack, *, faulty: bool = False, text: str = "") -> Sight:
    """Return all that the page of stack *of* shows.

    Args:
        faulty: Whether drives, GPUs and hosts have faults, and alerts fire.
        text: A text that hosts, runs, servers, alerts and the log report in every place; empty for plain ones.
    """
    raw = {name: facts(name) for name in of.fleet.hosts}
    first, *others = raw
    if faulty:
        raw[first]["arrays"][0]["degraded"] = 1
        raw[first]["arrays"][0]["members"] = raw[first]["arrays"][0]["members"][1:]
        for drive in raw[others[0]]["drives"][1:3]:
            drive["health"] = {"unknown": text or "permission denied"}
        raw[others[0]]["gpus"][3]["temperature_celsius"] = 97
    if text:
        raw[first]["arrays"][1]["bitmap"] = text
        for gpu in raw[first]["gpus"]:
            gpu["name"] = text
    found: dict[str, Any] = {name: Facts(each) for name, each in raw.items()}
    if faulty and len(others) > 3:
        problem = text or "no answer"
        found[others[3]] = HostUnreachable(Diagnostic(others[3], problem, "it answers", "Switch it on"))
    resources = tuple(declare(of))
    report = compare_each(of, resources, found.items())
    thing = UndeclaredThing(first, "RW-101", f"file:/etc/{text or 'x'}", text or "a file", "warning", "remove it", None)
    report = replace(report, undeclared=(thing,) if faulty else ())
    findings = collect(report, ResourcePlaces(of.fleet_file), "stacks/rack.yaml")
    document = AuditDocument(report, findings, draw_stack(of, report, findings))
    seen = overview.observe(of, resources, found)
    ranks = {each: {"metrics": 1200} for each in (first, others[0])}
    seen = replace(
        seen,
        runs=(RunReport(text or "letters", {**RUNNING, **({"why": text} if text else {})}, ranks),),
        servers=(
            ServerReport(text or "triage", "3f2a", {first: READY, others[0]: {"unknown": text} if text else READY}),
        ),
    )
    texts = (text or "drive reports a failure", text or "2026-12-01T09:12:00Z")
    alert = FiringAlert(text or "DriveFailing", others[0], "critical", *texts, held_back=False, receivers=("team",))
    line = text or "2026-12-01 09:00:00  olga@desk  up rack: done, status 0"
    changes = tuple(Change(line, (text or f"{name}/hot: update, 2 steps: done",), frozenset((name,))) for name in raw)
    return Sight(document, seen, (alert,) if faulty or text else (), changes)


def render(directory: Path, count: int, *, faulty: bool = False, text: str = "") -> str:
    """Return the page of `stack`; the arguments are those of `make_sight`."""
    of = stack(directory, count)
    return page.render(of, make_sight(of, faulty=faulty, text=text), "2026-12-01 09:00:00 UTC update succeeded")


def hostile(directory: Path, count: int) -> str:
    """Return the page of a stack whose hosts attack it."""
    return render(directory, count, faulty=True, text=ATTACK)

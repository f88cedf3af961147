"""Behaviour of the kernel and of systemd that no file shows: paths of packets, processes, and devices."""

import os
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.changed_services import SERVICES, SILENT, read_all, unit
from tests.support.expect import need
from tests.support.log import Log
from tests.support.odd_filesystems import ODD, lacks_tools, make_usual, mounted, states
from tests.support.packet_paths import DIVERTED, facts_after, found
from tests.support.packet_paths import SILENT as USUAL
from tests.support.systemd_machine import SystemdMachine, lacks


@line("hardening2", "truth2", part="packets")
def test_changes_that_lead_packets_elsewhere_are_found(log: Log) -> str:
    """Each change is made by ip, tc or sysctl in a network namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    changes = {**{name: change for name, (_, change) in DIVERTED.items()}, **USUAL}
    rows = {name: found(raw) for name, raw in zip(changes, facts_after(changes.values()), strict=True)}
    for name, by_rule in rows.items():
        log(f"{name}: {changes[name]}: {by_rule}")
    missed = [name for name, (id, _) in DIVERTED.items() if [*rows[name]] != [id]]
    need(not missed, f"not found by its rule alone: {missed}")
    wrong = {name: rows[name] for name in USUAL if rows[name]}
    need(not wrong, f"found: {wrong}")
    return f"{len(DIVERTED)} of {len(DIVERTED)} found, {len(USUAL)} usual changes silent"


@line("hardening2", "truth2", part="processes")
def test_processes_that_differ_from_their_units_are_found(log: Log, tmp_path: Path) -> str:
    """Services of a real systemd are started with other settings, or changed while they run."""
    if missing := lacks():
        pytest.skip(f"a real systemd needs {missing}")
    with SystemdMachine(tmp_path) as machine:
        answer = read_all(machine)
    log(str(answer))
    rows = answer["service_processes"]
    missed = [name for name in SERVICES if SERVICES[name][2] not in str(rows.get(unit(name)))]
    need(not missed, f"not found: {missed}")
    need({*rows} == set(map(unit, SERVICES)), f"found besides: {rows}")
    need([*answer["group_limits"].values()] == [["frozen"]], f"groups: {answer['group_limits']}")
    need(answer["manager_environment"] == ["EVIL", "LD_PRELOAD"], f"variables: {answer['manager_environment']}")
    return f"{len(SERVICES) + 3} found, {len(SILENT)} usual services silent"


@line("hardening2", "truth2", part="storage")
def test_filesystems_that_wait_or_lose_data_are_found(log: Log, tmp_path: Path) -> str:
    """Filesystems on loop devices are frozen, made without a journal, or mounted without order."""
    if missing := lacks_tools():
        pytest.skip(f"loop devices need {missing}")
    with mounted(tmp_path) as make:
        targets = {name: make("ext4", **arguments) for name, (arguments, _) in ODD.items()}
        usual = make_usual(make)
        rows = states(*targets.values(), *usual.values())
    log(str(rows))
    wrong = {name: rows.get(str(target)) for name, target in targets.items() if rows.get(str(target)) != ODD[name][1]}
    need(not wrong, f"not found: {wrong}")
    found = {name: rows[str(target)] for name, target in usual.items() if str(target) in rows}
    need(not found, f"found besides: {found}")
    return f"{len(ODD)} of {len(ODD)} found, {len(usual)} usual filesystems and changes silent"

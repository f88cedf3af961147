"""Roles of other vendors and of RDMA, on machines that are made of files as documents show them.

The probe looks at these, so that what a document shows is what a claim is held against. Nobody had the hardware.
"""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.facts.probe import main
from rackwright.fleet import load_fleet
from rackwright.kinds.role.entries.files import FileEntry
from rackwright.kinds.role.promise import promises
from rackwright.stack import DeclaredResource, declare
from tests.support.fabricated_machine import FabricatedMachine
from tests.support.mutations import ROWS
from tests.support.recorded_hosts import HERE, SALT, STACK

HOSTS: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "documented.yaml").read_text())
ROLES = ("rocm", "gaudi", "jetson", "ascend", "rdma")
FLEET = load_fleet(HERE / "vendors.yaml", STACK.repository.roles)
RESOURCES = {
    declared.name: declared
    for declared in declare(replace(STACK, fleet=FLEET))
    if declared.name.partition("/")[2] in ROLES
}
PROPERTIES = [
    pytest.param(declared, claim.thing, name, id=f"{declared.name}-{claim.thing}-{name}")
    for declared in RESOURCES.values()
    for claim in declared.kind.claims(declared.spec, STACK.repository)
    for name in claim.want
]


def machine(declared: DeclaredResource, root: Path) -> dict[str, Any]:
    """Return what the probe finds on a machine that shows what its document shows, and has what the role writes."""
    shown, made = HOSTS[declared.spec.host], FabricatedMachine(root)
    made.write("proc/sys/kernel/osrelease", f"{shown['kernel']}\n")
    made.write(f"boot/vmlinuz-{shown['kernel']}", "")
    made.write(f"lib/modules/{shown['kernel']}/modules.builtin", "")
    for path, text in shown["files"].items():
        made.write(path, text)
    written = [entry for entry in promises(declared.spec, STACK.repository).entries if isinstance(entry, FileEntry)]
    for file in written:
        made.write(file.file.lstrip("/"), file.content).chmod(int(file.mode, 8))
    stanzas = [
        f"Package: {name}\nStatus: hold ok installed\nArchitecture: all\nVersion: {version}\n"
        for name, version in shown["packages"].items()
    ]
    # dpkg's database always has dpkg itself, and ends with an empty line
    stanzas.append("Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n")
    made.write("var/lib/dpkg/status", "\n".join([*stanzas, ""]))
    owner = {
        "id": declared.spec.id,
        "fleet": "vendors",
        "phase": "ready",
        "wrote": sorted(file.file for file in written),
    }
    made.write(f"var/lib/rackwright/owners/role-{declared.spec.role}.json", json.dumps(owner))
    raw = json.loads(json.dumps(main.collect(made.top, SALT)))
    for entry in raw["files"].values():
        entry["owner"] = "root:root"  # whoever runs this test
    states = shown.get("units", {})
    raw["units"] = {name: {"load": "loaded", "enabled": state, "active": "active"} for name, state in states.items()}
    return raw


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return {name: machine(declared, tmp_path_factory.mktemp("host")) for name, declared in RESOURCES.items()}


def differences(declared: DeclaredResource, raw: dict[str, Any]) -> tuple[Difference, ...]:
    claims = declared.kind.claims(declared.spec, STACK.repository)
    return comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))


@pytest.mark.parametrize("declared", RESOURCES.values(), ids=RESOURCES)
def test_a_host_as_documents_show_it_is_as_declared(declared, machines):
    assert differences(declared, machines[declared.name]) == ()


@pytest.mark.parametrize(("declared", "thing", "name"), PROPERTIES)
def test_each_broken_promise_is_found_under_its_path_alone(declared, thing, name, machines):
    raw = copy.deepcopy(machines[declared.name])
    sort, key = thing.split(":", 1)
    ROWS[sort][name].differ(raw, key)

    found = {item.path for item in differences(declared, raw) if not item.is_unknown}
    gone = {f"{thing}.held"} if name == "installed" else set()  # what is not there is not held either
    assert f"{thing}.{name}" in found <= {f"{thing}.{name}", *gone}


@pytest.mark.parametrize(("declared", "thing", "name"), PROPERTIES)
def test_what_cannot_be_seen_is_unknown(declared, thing, name, machines):
    raw = copy.deepcopy(machines[declared.name])
    sort, key = thing.split(":", 1)
    ROWS[sort][name].hide(raw, key)
    left = {item.path: item.actual for item in differences(declared, raw)}

    assert isinstance(left[f"{thing}.{name}"], UnknownValue)
    assert all(isinstance(found, UnknownValue) for found in left.values())


BUSY = {
    "rocm-01/rocm": ("package:amdgpu-dkms", "version", "/dev/kfd"),
    "gaudi-01/gaudi": ("package:habanalabs-dkms", "version", "/dev/accel/accel0"),
    "atlas-01/ascend": ("reading:ascend.driver", "value", "/dev/davinci0"),
}


@pytest.mark.parametrize("name", BUSY)
def test_an_accelerator_in_use_is_not_taken_away(name, machines):
    """
    The refusal names the process and the device; once it has ended, the same plan has its steps.
    """
    declared, (thing, what, device) = RESOURCES[name], BUSY[name]
    raw = copy.deepcopy(machines[name])
    change = (Difference(thing, what, "new", "old"),)
    free = declared.kind.plan(declared.spec, change, Facts(raw), STACK.repository)
    raw["accelerator_users"] = [{"pid": 4711, "name": "python3", "device": device}]
    busy = declared.kind.plan(declared.spec, change, Facts(raw), STACK.repository)

    assert free.steps and free.refusals == ()
    assert busy.steps == ()
    assert [refusal.problem for refusal in busy.refusals] == [f"process 4711 (python3) has {device} open"]


def test_another_release_on_a_flashed_board_is_left_to_a_person(machines):
    declared, raw = RESOURCES["orin-01/jetson"], copy.deepcopy(machines["orin-01/jetson"])
    raw["readings"]["jetson.release"] = "36.3.0"
    plan = declared.kind.plan(declared.spec, differences(declared, raw), Facts(raw), STACK.repository)

    assert plan.steps == ()
    assert [(item.path, item.actual) for item in plan.by_hand] == [("reading:jetson.release.value", "36.3.0")]

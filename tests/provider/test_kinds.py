"""The real kinds over gRPC and SSH, on simulated hosts that answer with facts recorded from the example rack's twin."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackwright.hosts.pool import Hosts
from rackwright.hosts.rollout import RolloutGate
from rackwright.hosts.steps import execute
from rackwright.kinds.table import KINDS
from rackwright.kinds.tier import TierKind
from rackwright.provider.codec import decode, encode
from rackwright.provider.inputs import parse_spec
from rackwright.provider.site import Site
from rackwright.schema.rollout import Rollout
from rackwright.schema.secret import derive_value
from tests.support.leaks import find_forms, forms
from tests.support.operations_log import in_memory
from tests.support.provider_rig import Rig, State, failing, rig
from tests.support.recorded_hosts import HOST, RESOURCES, STACK, blank, recorded
from tests.support.simulated import SimulatedHost, SimulatedRack

HOT = RESOURCES[f"{HOST}/hot"].inputs
REMOVABLE = {**HOT, "declared": {**HOT["declared"], "destroy": "allowed"}}
ARRAY = f"{HOST}:hot"


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    with SimulatedRack({name: recorded(name) for name in (HOST, "gamma", "sorrel")}) as rack:
        yield rack


@pytest.fixture(name="rig")
def _rig(rack: SimulatedRack) -> Iterator[Rig]:
    opened: list[Hosts] = []

    def open_site(stack: str, secrets: Mapping[str, str]) -> Site:
        opened.append(Hosts(rack.endpoints, STACK.salt))
        return Site(STACK.repository, opened[-1], execute, RolloutGate(Rollout(), lambda: False), in_memory())

    with rig(KINDS, open_site) as made:
        made.token = TierKind.token
        yield made
    for hosts in opened:
        hosts.close()


@pytest.fixture
def host(rack: SimulatedRack) -> SimulatedHost:
    return rack[HOST]


@pytest.mark.parametrize("name", RESOURCES)
def test_a_spec_is_the_same_after_the_wire(name: str) -> None:
    declared = RESOURCES[name]
    inputs = decode(encode(declared.inputs))

    assert parse_spec(declared.kind, inputs) == declared.spec


def adopted(rig: Rig) -> State:
    """Return the state of the tier as it was recorded."""
    return rig.create(HOT)


@pytest.mark.parametrize("name", [name for name in RESOURCES if name.startswith((HOST, "gamma", "sorrel"))])
def test_what_is_as_declared_is_taken_over_without_a_step(name, rig, rack):
    """
    Every resource of the recorded hosts is right as it is, and stays without a difference.
    """
    declared = RESOURCES[name]
    rig.token = declared.token

    state = rig.create(declared.inputs)

    assert state.outputs["created"] is True
    assert rig.diff(rig.read(state), declared.inputs) == {}
    assert rack[declared.spec.host].steps == []


def test_a_network_that_was_taken_back_is_reported_whole(rig, rack):
    """
    What differs is named by path; an error behind the timer says that the host takes it back, and by when.
    """
    declared, raw = RESOURCES["gamma/network"], recorded("gamma")
    rig.token = declared.token
    state = rig.create(declared.inputs)
    raw["links"] = [{**link, "mtu": 1400} if link["name"] == "edge" else link for link in raw["links"]]
    rack["gamma"].set_facts(raw)
    rig.forget()
    assert rig.diff(rig.read(state), declared.inputs) == {'claims["link:edge"].mtu': "UPDATE"}

    def cut(step: dict[str, Any]) -> None:
        if step["text"].startswith("stop the timer"):
            raise RuntimeError("the host has put it back")

    rack["gamma"].on_step = cut
    with failing("ABORTED") as failures:
        rig.update(state, declared.inputs)
    assert "the host has put it back" in failures[0].message
    assert "within 300 s the host itself undoes" in failures[0].message


def test_another_key_of_a_tier_comes_to_its_host_and_is_reported_nowhere(rig, rack):
    """
    As a file for root alone; state and messages know that it is another one, and no more.
    """
    declared, host, key = RESOURCES["sorrel/hot"], rack["sorrel"], "/etc/rackwright/tiers/hot.key"
    rig.token = declared.token
    state, raw = rig.create(declared.inputs), recorded("sorrel")
    raw["files"][key]["digest"] = "of the key before"
    host.set_facts(raw)
    rig.forget()
    before = rig.read(state)
    assert rig.diff(before, declared.inputs) == {f'claims["file:{key}"].content': "UPDATE"}

    def work(step: dict[str, Any]) -> None:
        if step["text"].startswith("copy the LUKS header"):
            host.set_facts(recorded("sorrel"))

    host.on_step = work
    after = rig.update(before, declared.inputs)

    wanted = forms({"key": derive_value("hot_key")})
    written, *others = host.steps
    assert (written["path"], written["mode"], written["owner"]) == (f"{key}.new", 0o600, "root:root")
    assert base64.b64decode(written["content"]).decode() == derive_value("hot_key")
    lines = [repr(others), repr(after), *(message.text for message in rig.listener.messages)]
    assert [name for text in lines for name in find_forms(text.encode(), wanted)] == []
    assert rig.diff(after, declared.inputs) == {}


def test_the_steps_that_run_are_those_that_were_previewed(rig, host):
    """
    Their texts arrive at the host as the preview listed them, and what they make is read back.
    """
    host.set_facts(blank())
    rig.create(HOT, preview=True)
    [plan] = rig.messages("INFO")
    previewed = [line for line in plan.splitlines() if line.startswith("step ")]
    assert "RW01-NVME0 (nvme, 512MB): blank where it was sampled" in plan.splitlines()
    assert len(previewed) > 5

    def work(step: dict[str, Any]) -> None:
        if len(host.steps) == len(previewed):
            host.set_facts(recorded(HOST))

    host.on_step = work
    state = rig.create(HOT)

    total = len(host.steps)
    assert previewed == [f"step {number}/{total}: {step['text']}" for number, step in enumerate(host.steps, 1)]
    assert previewed == [line for line in rig.status_lines() if line in previewed]
    assert state.outputs["report"]["state"] == "optimal"
    assert rig.diff(state, HOT) == {}


def test_steps_without_effect_are_caught(rig, host):
    host.set_facts(blank())

    with failing("ABORTED") as failures:
        rig.create(HOT)

    assert f"md:{ARRAY}.level is absent, wanted raid10" in failures[0].message
    assert failures[0].kept.id == f"{HOST}/hot"


def test_a_drive_exchanged_after_the_plan_stops_before_the_first_byte(rig, host):
    """
    The owner file is written by then, so the resource is kept; the array is never made.
    """
    raw = blank()
    host.set_facts(raw)

    def exchange(step: dict[str, Any]) -> None:
        [drive] = (drive for drive in raw["drives"] if drive["serial"] == "RW01-NVME2")
        drive["sample"] = ["data 5f2c"]
        host.set_facts(raw)

    host.on_step = exchange
    with failing("ABORTED") as failures:
        rig.create(HOT)

    assert "RW01-NVME2 holds data 5f2c now" in failures[0].message
    assert [step["kind"] for step in host.steps] == ["put"]
    assert "created" not in decode(failures[0].kept.properties)


@pytest.mark.parametrize("preview", [True, False])
def test_what_is_on_a_drive_is_refused_with_the_line_to_paste(rig, host, preview):
    """
    The line, once pasted, lets exactly that content go.
    """
    raw = blank()
    ext4 = {"type": "ext4", "uuid": "3f2a", "label": None}
    raw["drives"][1] |= {"signatures": [ext4], "witnesses": ["9c1e"], "sample": ["data 77aa"]}
    serial = raw["drives"][1]["serial"]
    host.set_facts(raw)

    with failing("FAILED_PRECONDITION") as failures:
        rig.create(HOT, preview)
    assert host.steps == []
    [wipe] = re.findall(r"wipe: (\{.*\})", failures[0].message)

    rig.create({**HOT, "wipe": {serial: json.loads(wipe.partition(": ")[2].rstrip("}."))}}, preview=True)
    assert f"    destroys {serial}: ext4 3f2a 9c1e, data 77aa" in rig.messages("INFO")[-1].splitlines()


def test_drift_is_one_property_and_one_step(rig, host):
    raw = recorded(HOST)
    state = adopted(rig)
    next(array for array in raw["arrays"] if array["md_name"] == ARRAY)["bitmap"] = "none"
    host.set_facts(raw)
    rig.forget()

    drifted = rig.read(state)
    assert rig.diff(drifted, HOT) == {f'claims["md:{ARRAY}"].bitmap': "UPDATE"}

    host.on_step = lambda step: host.set_facts(recorded(HOST))
    mended = rig.update(drifted, HOT)
    assert host.steps[0]["text"] == "set the bitmap of hot to internal"
    assert rig.diff(mended, HOT) == {}


def test_an_absent_tier_is_never_created_again(rig, host):
    state = adopted(rig)
    host.set_facts(blank())

    with failing("FAILED_PRECONDITION") as failures:
        rig.update(state, HOT)

    assert "rackwright creates nothing over lost data" in failures[0].message
    assert host.steps == []


def test_a_host_that_is_off_keeps_its_state_and_refuses_changes(rig, host, rack):
    state = adopted(rig)
    rig.forget()
    rack.switch_off(HOST)

    assert "unreachable" in rig.read(state).outputs
    with failing("UNAVAILABLE"):
        rig.update(state, REMOVABLE)
    with failing("UNAVAILABLE") as failures:
        rig.delete(state)
    assert f"`rackwright host forget lab {HOST}`" in failures[0].message


def test_another_machine_at_the_address_is_refused(rig, host):
    raw = recorded(HOST)
    raw["identity"]["serial"] = "RW-GPU-99"
    host.set_facts(raw)

    with failing("FAILED_PRECONDITION") as failures:
        rig.create(HOT)

    assert "RW-GPU-99" in failures[0].message


def test_removal_needs_consent_and_ends_with_nothing_left(rig, host):
    with failing("FAILED_PRECONDITION") as failures:
        rig.delete(adopted(rig))
    assert "destroy: allowed" in failures[0].message
    assert host.steps == []

    def work(step: dict[str, Any]) -> None:
        if step["text"].startswith("note in the owner file: removed"):
            host.set_facts(blank())

    host.on_step = work
    rig.delete(rig.create(REMOVABLE))
    assert "erase the md superblock on RW01-NVME3" in [step["text"] for step in host.steps]

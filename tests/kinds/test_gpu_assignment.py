"""The GPUs of a run and of a server: noted by UUID, compared with those of the host, and never another's."""

import copy
import json
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, Plan, Put, Remove, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.shared.gpu_assignment import GpuAssignment
from rackwright.kinds.training_run import TrainingRunKind
from tests.support.model_server_spec import REPOSITORY, SPEC, served
from tests.support.recorded_hosts import RESOURCES, recorded
from tests.support.specs import changed

KIND = ModelServerKind()
UUIDS = [f"GPU-{number:08x}-0000-0000-0000-000000000000" for number in range(5)]
OWNER, RUN_OWNER = "server-digits", "run-digits"
SERVER = changed(SPEC, gpus=GpuAssignment(gpus=("0", "1"), has_uuids=True))
BY_UUID = changed(SPEC, gpus=GpuAssignment(gpus=(UUIDS[1],), has_uuids=True))
NOTED = {"fleet": SPEC.fleet, "gpus": ["0", "1"], "uuids": UUIDS[:2]}
FILE = f"/etc/rackwright/gpus/{OWNER}.json"


def facts(spec=SERVER, noted: Any = NOTED, uuids: list[str] = UUIDS[:4]) -> dict[str, Any]:
    """Return facts of a host with GPUs of *uuids*, while *spec* is served there with the noted GPUs."""
    raw = copy.deepcopy(served(spec))
    raw["gpus"] = [{"index": index, "uuid": uuid, "condition": "working"} for index, uuid in enumerate(uuids)]
    raw["gpu_assignments"] = {} if noted is None else {OWNER: noted}
    if noted is not None:
        raw["files"][FILE] = {"digest": "x", "mode": "0644", "owner": "root:root", "mtime_ns": 1}
    return raw


def differences(raw: dict[str, Any], spec=SERVER, kind: Any = KIND) -> tuple[Difference, ...]:
    claims = [claim for claim in kind.claims(spec, REPOSITORY) if claim.scope not in spec.not_rehearsable]
    return comparison.diff(claims, kind.observe(claims, Facts(raw)))


def planned(raw: dict[str, Any], spec=SERVER, kind: Any = KIND) -> Plan:
    return kind.plan(spec, differences(raw, spec, kind), Facts(raw), REPOSITORY)


def noted_by(plan: Plan) -> dict[str, Any]:
    [step] = [step for step in plan.steps if isinstance(step, Put) and step.path.startswith("/etc/rackwright/gpus/")]
    content: dict[str, Any] = json.loads(step.content)
    return content


def test_the_noted_gpus_are_as_declared() -> None:
    assert differences(facts()) == ()


def test_a_new_server_gets_its_gpus_by_uuid_before_it_starts() -> None:
    plan = planned(facts(noted=None))
    texts = [step.text for step in plan.steps]

    assert noted_by(plan) == NOTED
    assert texts.index(f"assign to {OWNER}: {UUIDS[0]}, {UUIDS[1]}") < next(
        index for index, text in enumerate(texts) if text.startswith("serve version")
    )


@pytest.mark.parametrize(
    ("uuids", "change"),
    [
        ([UUIDS[4], *UUIDS[1:4]], f"0: {UUIDS[4]} instead of {UUIDS[0]}"),
        ([UUIDS[0]], f"1: no GPU instead of {UUIDS[1]}"),
    ],
)
def test_another_board_in_a_slot_is_a_difference(uuids: list[str], change: str) -> None:
    [difference] = differences(facts(uuids=uuids))

    assert (difference.path, difference.actual) == (f"gpu_assignment:{OWNER}.changed", (change,))
    assert "run `rackwright up`, which assigns the GPUs that are there now" in difference.remedy


def test_a_renumbered_host_shows_every_gpu_that_has_moved() -> None:
    [difference] = differences(facts(uuids=[UUIDS[1], UUIDS[0]]))
    assert difference.actual == (f"0: {UUIDS[1]} instead of {UUIDS[0]}", f"1: {UUIDS[0]} instead of {UUIDS[1]}")


def test_up_assigns_the_present_gpus_and_starts_the_server_again() -> None:
    plan = planned(facts(uuids=[UUIDS[4], *UUIDS[1:4]]))
    assert noted_by(plan)["uuids"] == [UUIDS[4], UUIDS[1]]
    assert any(step.text.startswith("serve version") for step in plan.steps)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    plan = planned(facts(uuids=UUIDS[:1]))
    assert [refusal.problem for refusal in plan.refusals] == ["the host has no such GPU"]
    assert [refusal.where for refusal in plan.refusals] == [f"{SPEC.id}: GPU 1"]
    assert plan.steps == ()


def test_a_declared_uuid_is_found_at_any_index() -> None:
    noted = {"fleet": SPEC.fleet, "gpus": [UUIDS[1]], "uuids": [UUIDS[1]]}
    assert differences(facts(BY_UUID, noted), BY_UUID) == ()
    assert differences(facts(BY_UUID, noted, [UUIDS[1], UUIDS[0]]), BY_UUID) == ()
    [difference] = differences(facts(BY_UUID, noted, UUIDS[:1]), BY_UUID)
    assert difference.actual == (f"{UUIDS[1]}: not on the host",)
    assert "declare the UUID of another GPU" in difference.remedy
    assert noted_by(planned(facts(BY_UUID, None), BY_UUID)) == noted


def test_other_declared_gpus_are_assigned() -> None:
    moved = changed(SPEC, gpus=GpuAssignment(gpus=("2",), has_uuids=True))
    assert [each.path for each in differences(facts(moved), moved)] == [f"gpu_assignment:{OWNER}.gpus"]
    assert noted_by(planned(facts(moved), moved)) == {"fleet": SPEC.fleet, "gpus": ["2"], "uuids": [UUIDS[2]]}


def test_a_gpu_that_another_fleet_has_is_refused_and_shows_in_audits() -> None:
    raw = facts()
    raw["gpu_assignments"][RUN_OWNER] = {"fleet": "training", "gpus": ["1"], "uuids": [UUIDS[1]]}
    [difference] = differences(raw)
    assert (difference.path, difference.actual) == (f"gpu_assignment:{OWNER}.shared_with", (RUN_OWNER,))
    assert [refusal.problem for refusal in planned(raw).refusals] == [
        f"{RUN_OWNER} of the fleet training has 1 of {SPEC.host}"
    ]
    raw["gpu_assignments"][RUN_OWNER]["uuids"] = [UUIDS[3]]  # after a move, an equal index is no equal board
    assert differences(raw) == ()


def test_without_an_answer_of_the_driver_the_boards_are_unknown() -> None:
    raw = {**facts(), "gpus": {"unknown": "libnvidia-ml.so.1 is not there"}}
    [difference] = differences(raw)
    assert difference.path == f"gpu_assignment:{OWNER}.changed"
    assert isinstance(difference.actual, UnknownValue)
    assert planned(raw).steps == ()


def test_a_twin_has_no_boards_and_gets_indices() -> None:
    twin = changed(SERVER, not_rehearsable=("hardware",))
    raw = {**facts(twin, None), "gpus": {"unknown": "no driver"}}
    assert noted_by(planned(raw, twin)) == {**NOTED, "uuids": []}


def test_a_server_that_leaves_the_gpus_gives_them_back() -> None:
    raw = facts(SPEC)
    assert [each.path for each in differences(raw, SPEC)] == [f"gpu_assignment:{OWNER}.present"]
    assert Remove(f"take back the GPUs of {OWNER}", FILE) in planned(raw, SPEC).steps
    removal = ModelServerKind().removal(SERVER, Facts(facts()), REPOSITORY, True)
    assert Remove(f"take back the GPUs of {OWNER}", FILE) in removal.steps


def test_a_run_starts_again_with_other_boards() -> None:
    declared = RESOURCES["ember/digits"].spec
    gpus = GpuAssignment(gpus=("0",), has_uuids=True)
    run, kind = changed(declared, gpus=gpus, not_rehearsable=()), TrainingRunKind()
    raw = recorded("ember")
    raw |= {"gpus": [{"index": 0, "uuid": UUIDS[0]}], "gpu_assignments": {}}
    plan = planned(raw, run, kind)
    texts = [step.text for step in plan.steps]

    assert noted_by(plan) == {"fleet": declared.fleet, "gpus": ["0"], "uuids": [UUIDS[0]]}
    assert texts.index("stop digits, which saves first") < texts.index(f"assign to {RUN_OWNER}: {UUIDS[0]}")
    assert f"start {run.unit}" in texts

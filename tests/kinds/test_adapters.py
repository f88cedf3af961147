"""LoRA adapters of a server: copied by version, loaded while the server runs, and removed."""

import copy
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Plan, Put, Remove, Send
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.files import release_of
from rackwright.kinds.model_server.spec import AdapterPart, ReplicaPlace, ServerSpec
from rackwright.schema.vllm import Vllm
from tests.support.model_server_spec import REPOSITORY, SPEC, bare, served
from tests.support.specs import changed

KIND = ModelServerKind()
FIRST, SECOND = "0a0a0a0a0a0a", "0b0b0b0b0b0b"
FOLDER = f"{SPEC.lib}/adapters"


def adapter(version: str, rank: int = 8) -> AdapterPart:
    return AdapterPart(
        sha256=version[:2] * 32, rank=rank, version=version, source=f"/project/adapters/{version}", manifest="{}",
        files={"adapter_config.json": "aa" * 32, "adapter_model.safetensors": version[:2] * 32},
    )  # fmt: skip


def spec(**adapters: AdapterPart) -> ServerSpec:
    return changed(SPEC, vllm=Vllm(), adapters=adapters)


ONE, TWO = spec(house=adapter(FIRST)), spec(house=adapter(FIRST), guest=adapter(SECOND))
HAS_ONE = served(ONE)


def differences(declared: ServerSpec, raw: dict[str, Any]) -> dict[str, Any]:
    claims = KIND.claims(declared, REPOSITORY)
    return {each.path: each.actual for each in comparison.diff(claims, KIND.observe(claims, Facts(raw)))}


def planned(declared: ServerSpec, raw: dict[str, Any]) -> Plan:
    claims = KIND.claims(declared, REPOSITORY)
    found = comparison.diff(claims, KIND.observe(claims, Facts(raw)))
    return KIND.plan(declared, found, Facts(raw), REPOSITORY)


def texts(plan: Plan) -> list[str]:
    return [step.text for step in plan.steps]


def test_what_is_loaded_as_declared_is_left_alone() -> None:
    assert differences(ONE, HAS_ONE) == {}
    assert planned(ONE, HAS_ONE).steps == ()


def test_a_further_adapter_is_copied_and_loaded_while_the_server_runs() -> None:
    plan = planned(TWO, HAS_ONE)
    assert release_of(TWO, REPOSITORY) == release_of(ONE, REPOSITORY)
    assert texts(plan) == [
        f"clear {FOLDER}/.{SECOND}.partial",
        f"send adapter guest {SECOND}: adapter_config.json",
        f"send adapter guest {SECOND}: adapter_model.safetensors",
        f"write {FOLDER}/.{SECOND}.partial/model.json",
        f"verify adapter guest {SECOND}",
        f"write {SPEC.etc}/adapters.json",
        "load the adapters house, guest, while the server runs",
        "note in the owner file: ready",
    ]
    weights = next(step for step in plan.steps if isinstance(step, Send) and step.path.endswith("safetensors"))
    assert (weights.source, weights.sha256) == (f"/project/adapters/{SECOND}/adapter_model.safetensors", "0b" * 32)
    place = next(step for step in plan.steps if isinstance(step, Command) and "workloads.serving.place" in step.argv)
    assert place.argv[-2:] == (FOLDER, SECOND)


def test_an_adapter_that_is_no_longer_declared_is_unloaded_and_then_removed() -> None:
    raw = served(TWO)
    plan = planned(ONE, raw)
    assert differences(ONE, raw).keys() == {
        f"file:{SPEC.etc}/adapters.json.content", "adapters:digits.others", "adapters:digits.loaded"
    }  # fmt: skip
    assert texts(plan)[1:3] == [
        "load the adapters house, while the server runs",
        f"remove adapters that are no longer declared: {SECOND}",
    ]
    removed = next(step for step in plan.steps if step.text.startswith("remove adapters"))
    assert isinstance(removed, Command)
    assert removed.argv[-2:] == (SPEC.lib, SECOND)


def test_the_last_adapter_goes_with_a_restart() -> None:
    plan = planned(spec(), HAS_ONE)
    steps = texts(plan)
    assert any(text.startswith("serve version") for text in steps)
    assert not any(text.startswith("load the adapters") for text in steps)
    assert Remove(f"remove {SPEC.etc}/adapters.json", f"{SPEC.etc}/adapters.json") in plan.steps


def test_a_larger_rank_needs_a_restart() -> None:
    larger = spec(house=adapter(FIRST), guest=adapter(SECOND, rank=64))
    steps = texts(planned(larger, HAS_ONE))
    assert any(text.startswith("serve version") for text in steps)
    assert f"verify adapter guest {SECOND}" in steps


@pytest.mark.parametrize(
    ("change", "paths"),
    [
        (lambda server: server["adapters"].update({FIRST: "cut"}), {"adapters:digits.whole"}),
        (lambda server: server["adapters"].clear(), {"adapters:digits.whole"}),
        (lambda server: server["adapters"].update({SECOND: "whole"}), {"adapters:digits.others"}),
        (lambda server: server["loaded_adapters"].clear(), {"adapters:digits.loaded"}),
        (lambda server: server["loaded_adapters"].update(house="/elsewhere"), {"adapters:digits.loaded"}),
    ],
)
def test_each_property_differs_by_itself_and_is_mended(change, paths: set[str]) -> None:
    raw = copy.deepcopy(HAS_ONE)
    change(raw["servers"]["digits"])
    steps = texts(planned(ONE, raw))
    assert differences(ONE, raw).keys() == paths
    assert "load the adapters house, while the server runs" in steps
    assert (f"verify adapter house {FIRST}" in steps) == (paths == {"adapters:digits.whole"})


def test_a_new_server_has_its_adapters_before_it_starts() -> None:
    steps = texts(planned(ONE, bare()))
    starts = next(index for index, text in enumerate(steps) if text.startswith("serve version"))
    file = steps.index(f"write {SPEC.etc}/adapters.json")
    archive = next(index for index, text in enumerate(steps) if text.endswith("workloads.zip"))
    assert archive < steps.index(f"verify adapter house {FIRST}") < file < starts


def test_a_replica_starts_again_with_its_adapters_and_its_workers_report_none() -> None:
    place = ReplicaPlace(addresses=("10.141.0.11", "10.141.0.12"), rank=0, interface="fabric0")
    leader = changed(ONE, vllm=Vllm(replica_hosts=2), replica=place)
    raw = served(leader)
    raw["packages"]["nftables"] = "1.0.6-2"
    raw["servers"]["digits"]["adapters"] = {}
    leader_steps = texts(planned(changed(leader, not_rehearsable=("kernel",)), without_table(leader, raw)))
    assert any(text.startswith("serve version") for text in leader_steps)
    worker = changed(leader, replica=place.model_copy(update={"rank": 1}))
    [claim] = [claim for claim in KIND.claims(worker, REPOSITORY) if claim.thing == "adapters:digits"]
    assert claim.want.keys() == {"whole", "others"}


def without_table(declared: ServerSpec, raw: dict[str, Any]) -> dict[str, Any]:
    """Return *raw* with a table whose rules are not those of *declared*, which a restart loads."""
    return {**raw, "nftables": {declared.firewall.table: []}}


def test_other_servers_have_no_claims_of_adapters() -> None:
    assert not [claim for claim in KIND.claims(SPEC, REPOSITORY) if claim.thing.startswith("adapters:")]


def test_the_manifest_is_beside_the_files_when_they_are_verified() -> None:
    [manifest] = [step for step in planned(TWO, HAS_ONE).steps if isinstance(step, Put) and "partial" in step.path]
    assert (manifest.content, manifest.owner) == ("{}", f"root:{SPEC.account}")

"""The cache beyond the GPUs of one vLLM: blocks in host memory, and blocks that servers exchange."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from workloads.serving.answers import HttpError
from workloads.serving.forwarded_request import prepare
from workloads.serving.forwarded_routes import ROUTES
from workloads.serving.keys import Key
from workloads.serving.kv_cache import GIB, KvTransferSettings
from workloads.serving.kv_parameters import check_parameters
from workloads.serving.replica import fingerprint
from workloads.serving.settings import ServingSettings
from workloads.serving.vllm_settings import ReplicaSettings, VllmSettings, arguments, environment

PEERS = [{"address": "10.141.0.23", "port": 5700, "ranks": 2}, {"address": "10.141.0.24"}]
TRANSFER: dict[str, Any] = {"role": "decode", "address": "10.141.0.21", "peers": PEERS, "port": 5650}
SETTINGS = KvTransferSettings.model_validate(TRANSFER)
PROMPTS = KvTransferSettings.model_validate({**TRANSFER, "role": "prefill"})
ROUTER = Key(name="router", sha256="0" * 64, scopes=("infer", "exchange"))
USER = Key(name="user", sha256="1" * 64, scopes=("infer", "read", "metrics"))
REPLICA = ReplicaSettings(addresses=("10.141.0.21", "10.141.0.22"), rank=0, interface="fabric0", key_file="/etc/key")
CHAT = next(route for route in ROUTES if route.path == "/v1/chat/completions")


def config(**settings: Any) -> dict[str, Any]:
    """Return vLLM's configuration of the transfer with *settings*."""
    options = arguments(VllmSettings.model_validate(settings), 8)
    found: dict[str, Any] = json.loads(options[options.index("--kv-transfer-config") + 1])
    return found


@pytest.mark.parametrize(("more", "gib"), [
    ({}, 64), ({"replica": REPLICA, "pipeline_parallel": 2}, 128),
    ({"replica": REPLICA, "data_parallel": 16, "expert_parallel": True}, 8),
])  # fmt: skip
def test_host_memory_is_that_of_one_engine(more: dict[str, Any], gib: int) -> None:
    assert config(kv_offload_gib=64, **more) == {
        "kv_connector": "OffloadingConnector", "kv_role": "kv_both",
        "kv_connector_extra_config": {"cpu_bytes_to_use": gib * GIB},
    }  # fmt: skip


@pytest.mark.parametrize(("role", "name"), [("prefill", "kv_producer"), ("decode", "kv_consumer")])
def test_servers_exchange_blocks_on_their_own_address_and_port(role: str, name: str) -> None:
    transfer = {**TRANSFER, "role": role}
    expected = {"kv_connector": "NixlConnector", "kv_role": name, "kv_load_failure_policy": "fail"}
    assert config(kv_transfer=transfer) == expected
    variables = environment(VllmSettings.model_validate({"kv_transfer": transfer}))
    assert variables["VLLM_NIXL_SIDE_CHANNEL_HOST"] == "10.141.0.21"
    assert variables["VLLM_NIXL_SIDE_CHANNEL_PORT"] == "5650"


def test_hosts_of_a_replica_have_all_but_their_address_in_common() -> None:
    def digest(**changes: object) -> str:
        return fingerprint("1", ServingSettings.model_validate({"vllm": {"kv_transfer": {**TRANSFER, **changes}}}))

    assert digest() == digest(address="10.141.0.22")
    assert digest() != digest(port=5651)


@pytest.mark.parametrize(("settings", "reason"), [
    ({"kv_offload_gib": 8, "kv_transfer": TRANSFER}, "are two connectors, and a server has one"),
    ({"kv_offload_gib": 8, "cpu_cache_gib": 2}, "kv_offload_gib moves blocks from and to GPUs"),
    ({"kv_transfer": TRANSFER, "cpu_cache_gib": 2}, "kv_transfer moves blocks from and to GPUs"),
    ({"kv_offload_gib": 8, "prefix_cache": False}, "which prefix_cache: false switches off"),
    ({"kv_transfer": {**TRANSFER, "peers": []}}, "at least 1 item"),
    ({"kv_offload_gib": 0}, "greater than 0"),
])  # fmt: skip
def test_settings_without_an_effect_are_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        VllmSettings.model_validate(settings)


def request(**parameters: object) -> dict[str, Any]:
    return {"model": "talk", "messages": [], "kv_transfer_params": parameters}


DONE = {"do_remote_prefill": True, "remote_host": "10.141.0.24", "remote_port": 5600}
ASKED = {"do_remote_decode": True, "do_remote_prefill": False, "remote_engine_id": None, "remote_block_ids": None}


@pytest.mark.parametrize(("body", "transfer"), [
    ({"model": "talk"}, SETTINGS), ({"kv_transfer_params": None}, PROMPTS), (request(do_remote_decode=True), PROMPTS),
    (request(**ASKED, remote_host=None, remote_port=None), PROMPTS), (request(**DONE), SETTINGS),
    (request(**DONE | {"remote_host": "10.141.0.23", "remote_port": 5701}, remote_block_ids=[1, 2]), SETTINGS),
    (request(**DONE, do_remote_decode=False, remote_engine_id="a", tp_size=1), SETTINGS),
])  # fmt: skip
def test_a_router_may_name_the_cache_of_a_peer(body: dict[str, Any], transfer: KvTransferSettings) -> None:
    check_parameters(body, transfer, ROUTER)
    assert json.loads(prepare(json.dumps(body).encode(), CHAT, "7f", transfer, ROUTER).body) == body


@pytest.mark.parametrize("key", [USER, None])
@pytest.mark.parametrize(("parameters", "transfer"), [
    (DONE, SETTINGS), ({**DONE, "remote_block_ids": [7]}, SETTINGS), (ASKED, PROMPTS), ({}, SETTINGS), ({}, PROMPTS),
])  # fmt: skip
def test_users_name_no_cache(parameters: dict[str, Any], transfer: KvTransferSettings, key: Key | None) -> None:
    """The blocks that a request names are read without a question: they may be those of another user's prompt."""
    with pytest.raises(HttpError, match="this key does not allow exchange") as caught:
        prepare(json.dumps(request(**parameters)).encode(), CHAT, "7f", transfer, key)
    assert caught.value.status == 403


@pytest.mark.parametrize(("parameters", "transfer"), [
    (ASKED, SETTINGS), (DONE, PROMPTS), ({}, SETTINGS), ({}, PROMPTS), ({**DONE, "do_remote_decode": True}, SETTINGS),
    ({"do_remote_prefill": "true"}, SETTINGS), ({"do_remote_decode": True, "do_remote_prefill": True}, PROMPTS),
])  # fmt: skip
def test_a_server_does_the_work_of_its_role_alone(parameters: dict[str, Any], transfer: KvTransferSettings) -> None:
    with pytest.raises(HttpError, match=f"a server of role {transfer.role} is asked for"):
        prepare(json.dumps(request(**parameters)).encode(), CHAT, "7f", transfer, ROUTER)


@pytest.mark.parametrize("place", [
    {"remote_host": "10.141.0.99", "remote_port": 5600}, {"remote_host": "10.141.0.23", "remote_port": 5702},
    {"remote_host": "10.141.0.23", "remote_port": 5699}, {"remote_host": "10.141.0.23"}, {"remote_port": 5600},
    {"remote_host": "10.141.0.23", "remote_port": "5700"}, {"remote_host": "10.141.0.24", "remote_port": True},
    {"remote_host": ["10.141.0.23"], "remote_port": 5700}, {},
])  # fmt: skip
def test_no_client_leads_vllm_to_another_host_or_port(place: dict[str, Any]) -> None:
    with pytest.raises(HttpError, match="it names no server that this one exchanges caches with"):
        prepare(json.dumps(request(do_remote_prefill=True, **place)).encode(), CHAT, "7f", SETTINGS, ROUTER)


@pytest.mark.parametrize("place", [{"remote_host": "10.141.0.23"}, {"remote_block_ids": [1]}, {"tp_size": 8}])
def test_a_server_of_prompts_reads_no_cache(place: dict[str, Any]) -> None:
    with pytest.raises(HttpError, match="it names no server that this one exchanges caches with"):
        prepare(json.dumps(request(do_remote_decode=True, **place)).encode(), CHAT, "7f", PROMPTS, ROUTER)


@pytest.mark.parametrize(("body", "transfer", "reason"), [
    (request(do_remote_decode=True), None, "this server exchanges no caches with others"),
    ({"kv_transfer_params": "10.141.0.23"}, SETTINGS, "a server of role decode is asked for"),
    ({"vllm_xargs": {"kv_transfer_params": {}}}, SETTINGS, "kv_transfer_params is a field of its own"),
    ({"vllm_xargs": {"kv_transfer_params": {}}}, None, "kv_transfer_params is a field of its own"),
    (["no object"], SETTINGS, "no object of JSON"),
])  # fmt: skip
def test_such_fields_are_refused_elsewhere(body: object, transfer: KvTransferSettings | None, reason: str) -> None:
    for route in (each for each in ROUTES if each.computes):
        with pytest.raises(HttpError, match=reason):
            prepare(json.dumps(body).encode(), route, "7f", transfer, ROUTER)


def test_a_form_reaches_no_server_that_exchanges_caches() -> None:
    route = next(each for each in ROUTES if each.takes_forms)
    form = b'--boundary\r\nname="kv_transfer_params"\r\n\r\n{}'
    assert prepare(form, route, "7f").body == form
    with pytest.raises(HttpError, match="reads bodies of JSON alone"):
        prepare(form, route, "7f", SETTINGS, ROUTER)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
def test_no_body_that_only_vllm_would_read_names_a_cache(encoding: str) -> None:
    """A server that keeps caches in host memory reads these fields as well."""
    body = json.dumps({"input": "a", "kv_transfer_params": {"do_remote_prefill": True}}).encode(encoding)
    for route in (each for each in ROUTES if each.computes):
        for transfer in (None, SETTINGS):
            with pytest.raises(HttpError):
                prepare(body, route, "7f", transfer, ROUTER)

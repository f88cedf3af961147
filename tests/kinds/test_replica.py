"""The files of a replica over two hosts: `python -m tests.kinds.test_replica` writes them to replica.txt."""

import json
from pathlib import Path
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Absent, Difference, Plan, UnknownValue
from rackwright.facts.facts import Facts
from rackwright.facts.probe import nftables
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.files import files
from rackwright.kinds.model_server.spec import AdapterPart, ReplicaPlace, ServerSpec
from rackwright.kinds.shared.service_account import ServiceFile
from rackwright.schema.vllm import LoraAdapter, Vllm
from tests.support.model_server_spec import REPOSITORY, SPEC, bare, served
from tests.support.specs import changed
from workloads.serving.settings import ServingSettings

GOLDEN = Path(__file__).with_name("replica.txt")
RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("recorded_nftables.json").read_text())
"""What nft 1.0.6 listed of the tables of a leader, a worker, one with IPv6, and that after the end of its unit."""
KIND, TABLE = ModelServerKind(), "nftables:rackwright_server_digits"
ADDRESSES = ("10.141.0.11", "10.141.0.12")
SHOWN = ("settings.json", "adapters.json", "firewall.nft", "server-digits.service")
VLLM = Vllm(
    replica_hosts=2, reasoning_parser="deepseek_r1", tool_parser="deepseek_v3", kv_cache_dtype="fp8",
    speculative_tokens=1, prefix_cache=True, options={"max-num-batched-tokens": 4096},
    adapters={"house": LoraAdapter(directory="/srv/warm/adapters/house", sha256="ab" * 32)}, port=29600,
)  # fmt: skip


def spec(rank: int, place: ReplicaPlace | None = None) -> ServerSpec:
    place = place or ReplicaPlace(addresses=ADDRESSES, rank=rank, interface="fabric0")
    layout = {"pipeline_parallel": 2, "decode_context_parallel": 8}
    house = AdapterPart(directory="/srv/warm/adapters/house", sha256="ab" * 32, rank=16)
    return changed(SPEC, vllm=VLLM, set={}, tensor_parallel=8, layout=layout, replica=place, adapters={"house": house})


def replace_addresses(*addresses: str) -> ReplicaPlace:
    return ReplicaPlace(addresses=addresses, rank=0, interface="fabric0")


def rendered() -> str:
    """Return the files of the leader and of the worker that differ from those of other servers."""
    parts = []
    for name, each in (("leader", spec(0)), ("worker", spec(1))):
        for file in files(each, REPOSITORY):
            if file.path.endswith(SHOWN):
                assert isinstance(file.content, str)
                path = (
                    file.path.replace(file.path.split("/")[-2], "RELEASE") if "/releases/" in file.path else file.path
                )
                parts.append(f"=== {name}: {path}\n{file.content}")
    return "\n".join(parts)


def test_the_files_are_those_that_were_reviewed() -> None:
    assert rendered() == GOLDEN.read_text(), "run python -m tests.kinds.test_replica, and read the difference"


@pytest.mark.parametrize("rank", [0, 1])
def test_the_server_reads_its_settings(rank: int) -> None:
    [content] = [file.content for file in files(spec(rank), REPOSITORY) if file.path.endswith("settings.json")]
    assert isinstance(content, str)
    settings = ServingSettings.model_validate_json(content)
    assert settings.vllm.follows == (rank == 1)
    assert settings.vllm.replica is not None
    assert (settings.vllm.replica.leader, settings.vllm.replica.lease_port) == (ADDRESSES[0], 29602)


def test_a_server_without_vllm_has_no_table() -> None:
    assert not any(file.path.endswith(".nft") for file in files(SPEC, REPOSITORY))
    [unit] = [file.content for file in files(SPEC, REPOSITORY) if file.path.endswith("server-digits.service")]
    assert "nft" not in str(unit)


@pytest.mark.parametrize("declared", [changed(SPEC, vllm=Vllm()), SPEC.model_copy(update={"runs_vllm": True})])
def test_vllm_on_one_host_is_closed_to_all_other_hosts_by_both_families(declared: ServerSpec) -> None:
    """
    torch's store listens on all addresses of the host, also for processes of one host.
    """
    contents = {file.path.rpartition("/")[2]: str(file.content) for file in files(declared, REPOSITORY)}
    rules = [line.strip() for line in contents["firewall.nft"].splitlines() if "socket" in line]
    unit = contents["server-digits.service"]

    assert rules == [
        'oifname "lo" socket cgroupv2 level 2 "system.slice/server-digits.service" meta mark set 3149193547',
        'socket cgroupv2 level 2 "system.slice/server-digits.service" counter drop',
    ]
    assert "    tcp dport 8080 accept\n" in contents["firewall.nft"]
    assert unit.index("ExecStartPre=+/usr/sbin/nft -f /etc") < unit.index("ExecStart=/")
    assert "lease_key" not in unit
    assert differences(declared, served(declared)) == ()
    [missing] = differences(declared, {**served(declared), "nftables": {}})
    assert missing.path == f"{TABLE}.rules"


def test_addresses_of_ipv6_are_in_rules_of_ipv6() -> None:
    place = replace_addresses("fd00::1", "fd00::2")
    [table] = [file.content for file in files(spec(0, place), REPOSITORY) if file.path.endswith(".nft")]
    assert "ip6 saddr != { fd00::1, fd00::2 } counter drop" in str(table)
    assert "meta nfproto ipv4 counter drop" in str(table)


def test_each_replica_has_a_key_of_its_own_that_root_alone_reads() -> None:
    def key(declared: ServerSpec) -> ServiceFile:
        [file] = [file for file in files(declared, REPOSITORY) if file.path.endswith("/lease_key")]
        return file

    other = spec(0, replace_addresses("10.141.0.11", "10.141.0.13"))
    assert key(spec(0)).content == key(spec(1)).content
    assert key(spec(0)).content != key(other).content
    assert (len(str(key(spec(0)).content)), key(spec(0)).mode, key(spec(0)).secret) == (64, 0o600, SPEC.key)
    assert not any(file.path.endswith("lease_key") for file in files(SPEC, REPOSITORY))


def facts(declared: ServerSpec, table: str | None) -> dict[str, Any]:
    """Return facts of a host that serves *declared*; nft lists *table* of those that were recorded."""
    raw = served(declared)
    raw["packages"]["nftables"] = "1.0.6-2"
    raw["nftables"] = (
        {} if table is None else {declared.firewall.table: nftables.stable(RECORDED[table]["nftables"][2:])}
    )
    return raw


def differences(declared: ServerSpec, raw: dict[str, Any]) -> tuple[Difference, ...]:
    claims = KIND.claims(declared, REPOSITORY)
    return comparison.diff(claims, KIND.observe(claims, Facts(raw)))


def planned(declared: ServerSpec, raw: dict[str, Any]) -> Plan:
    return KIND.plan(declared, differences(declared, raw), Facts(raw), REPOSITORY)


@pytest.mark.parametrize(
    ("table", "declared"),
    [("leader", spec(0)), ("worker", spec(1)), ("ipv6", spec(0, replace_addresses("fd00::1", "fd00::2")))],
)
def test_the_rules_that_nft_lists_are_those_of_the_file(table: str, declared: ServerSpec) -> None:
    """
    Recorded with nft 1.0.6, which had loaded the files that are rendered here.
    """
    assert differences(declared, facts(declared, table)) == ()


def test_a_deleted_table_is_a_difference_and_loaded_again_without_a_restart() -> None:
    raw = facts(spec(0), None)
    [difference] = differences(spec(0), raw)
    texts = [step.text for step in planned(spec(0), raw).steps]

    assert (difference.path, difference.actual) == (f"{TABLE}.rules", Absent())
    assert "until then others may reach the ports of vLLM" in difference.remedy
    assert texts == [
        "load the table rackwright_server_digits, which closes the ports of vLLM to others",
        "note in the owner file: ready",
    ]


def test_a_changed_rule_and_the_rules_of_an_earlier_start_are_differences() -> None:
    raw = facts(spec(0), "leader")
    raw["nftables"]["rackwright_server_digits"].pop()
    [cut] = differences(spec(0), raw)
    [of_another_host] = differences(spec(1), facts(spec(1), "leader"))
    declared = spec(0, replace_addresses("fd00::1", "fd00::2"))
    [stale] = differences(declared, facts(declared, "stale"))

    assert {each.path for each in (cut, of_another_host, stale)} == {f"{TABLE}.rules"}
    assert isinstance(stale.actual, tuple)
    assert "socket cgroupv2 == 406929" in stale.actual[-1], "a control group without a name no longer exists"


def test_a_restart_loads_the_table_by_itself() -> None:
    raw = facts(spec(0), None)
    raw["servers"]["digits"]["ready"] = False
    texts = [step.text for step in planned(spec(0), raw).steps]
    assert any(text.startswith("serve version") for text in texts)
    assert not any(text.startswith("load the table") for text in texts)


def test_a_kernel_that_is_not_read_is_unknown() -> None:
    raw = {**facts(spec(0), "leader"), "nftables": {"unknown": "nft is not installed"}}
    [difference] = differences(spec(0), raw)
    assert difference.path == f"{TABLE}.rules"
    assert isinstance(difference.actual, UnknownValue)
    assert "nft is not installed" in difference.actual.reason
    assert planned(spec(0), raw).steps == ()


def test_a_host_without_nftables_is_refused_and_one_with_it_is_not() -> None:
    declared = spec(0)
    assert "package:nftables" not in {claim.thing for claim in KIND.claims(SPEC, REPOSITORY)}
    raw = {**bare(), "nftables": {"unknown": "nft is not installed"}}
    raw["packages"] = {name: each for name, each in raw["packages"].items() if name != "nftables"}
    plan = planned(declared, raw)
    assert [each.problem for each in plan.refusals] == ["the host has no nftables"]
    assert plan.steps == ()
    raw["packages"]["nftables"], raw["nftables"] = "1.0.6-2", {}
    plan = planned(declared, raw)
    assert plan.refusals == ()
    assert plan.steps


if __name__ == "__main__":
    GOLDEN.write_text(rendered())

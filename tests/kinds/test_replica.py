"""The files of a replica over two hosts: `python -m tests.kinds.test_replica` writes them to replica.txt."""

from pathlib import Path

import pytest

from rackwright.core import diff as comparison
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.files import files
from rackwright.kinds.model_server.spec import ReplicaPlace, ServerSpec
from rackwright.schema.vllm import LoraAdapter, Vllm
from tests.support.model_server_spec import REPOSITORY, SPEC, bare
from tests.support.specs import changed
from workloads.serving.settings import ServingSettings

GOLDEN = Path(__file__).with_name("replica.txt")
ADDRESSES = ("10.141.0.11", "10.141.0.12")
SHOWN = ("settings.json", "firewall.nft", "server-digits.service")
VLLM = Vllm(
    replica_hosts=2, reasoning_parser="deepseek_r1", tool_parser="deepseek_v3", kv_cache_dtype="fp8",
    speculative_tokens=1, prefix_cache=True, options={"max-num-batched-tokens": 4096},
    adapters={"house": LoraAdapter(directory="/srv/warm/adapters/house", sha256="ab" * 32)}, port=29600,
)  # fmt: skip


def spec(rank: int, place: ReplicaPlace | None = None) -> ServerSpec:
    place = place or ReplicaPlace(addresses=ADDRESSES, rank=rank, interface="fabric0")
    layout = {"pipeline_parallel": 2, "decode_context_parallel": 8}
    return changed(SPEC, vllm=VLLM, set={}, tensor_parallel=8, layout=layout, replica=place)


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


def test_a_replica_on_one_host_has_no_table() -> None:
    assert not any(file.path.endswith(".nft") for file in files(SPEC, REPOSITORY))
    [unit] = [file.content for file in files(SPEC, REPOSITORY) if file.path.endswith("server-digits.service")]
    assert "nft" not in str(unit)


def test_addresses_of_ipv6_are_in_rules_of_ipv6() -> None:
    place = ReplicaPlace(addresses=("fd00::1", "fd00::2"), rank=0, interface="fabric0")
    [table] = [file.content for file in files(spec(0, place), REPOSITORY) if file.path.endswith(".nft")]
    assert "ip6 saddr != { fd00::1, fd00::2 } counter drop" in str(table)
    assert "meta nfproto ipv4 counter drop" in str(table)


def test_a_host_without_nftables_is_refused_and_one_with_it_is_not() -> None:
    kind, raw, declared = ModelServerKind(), bare(), spec(0)
    claims = kind.claims(declared, REPOSITORY)
    assert "package:nftables" not in {claim.thing for claim in kind.claims(SPEC, REPOSITORY)}
    for packages, refused in (({}, ["the host has no nftables"]), ({"nftables": "1.0.6-2"}, [])):
        raw["packages"] = {**{name: each for name, each in raw["packages"].items() if name != "nftables"}, **packages}
        differences = comparison.diff(claims, kind.observe(claims, Facts(raw)))
        plan = kind.plan(declared, differences, Facts(raw), REPOSITORY)
        assert [each.problem for each in plan.refusals] == refused
        assert bool(plan.steps) == (not refused)


if __name__ == "__main__":
    GOLDEN.write_text(rendered())

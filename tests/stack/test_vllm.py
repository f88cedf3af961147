"""A language model on GPUs: over how many each host divides it, and what is refused before any host is asked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rackwright.cli import pulumi
from rackwright.cli.app import app
from rackwright.errors import DeclarationError
from rackwright.kinds.model_server.files import files
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.stack import declare, load_stack
from rackwright.stack.servers import server_notes
from tests.support.model_server_spec import REPOSITORY
from tests.support.stack_settings import configure, new_project
from workloads.catalogue.models import model_config
from workloads.serving import model as model_directory
from workloads.serving.fit import computed_tensors, sizes
from workloads.serving.fit.shape import shape_of
from workloads.serving.settings import ServingSettings

SERVER = """\
fleet: serving
uses: hosts.yaml
servers:
  talk:
    model: {path: models/talk}
    hosts: [HOSTS]
    anybody: true
    listen: everywhere
    gate: {accuracy_kept: null}
"""
R1, V32, B70 = (
    sizes(config, computed_tensors(shape_of(config))).as_data()
    for config in map(model_config, ("deepseek-r1", "deepseek-v3.2", "llama-3.1-70b"))
)
OLDER = {
    "weight_bytes": 141_000_000_000, "cache_bytes_per_token": 327680, "context_tokens": 131072, "heads": 64,
    "cache_parts": 8,
}  # fmt: skip
ROUTER = "keys: {router: {secret: router, scopes: [infer, read, exchange]}}"
PROFILES = {
    "hopper": "training-h100", "wide": "inference-h200", "pair": "training-a100", "instinct": "training-mi300x",
    "plain": "virtual", "bare": "virtual", "gaudi": "training-gaudi2", "orin": "edge-orin",
    "joined-a": "training-h100", "joined-b": "training-h100",
}  # fmt: skip
FABRIC = {
    f"joined-{name}": f", network: {{}}, nics: [{{mac: '52:54:00:00:00:{number}', name: fabric0, "
    f"addresses: [10.141.0.{number}/24]}}]"
    for name, number in (("a", 21), ("b", 22))
}
Project = Callable[..., dict[str, ServerSpec]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return what declares a model of *sizes* on *hosts*, and returns the specs of its servers."""
    stacks = new_project(tmp_path, monkeypatch, {}) / "stacks"
    configure(tmp_path, "serving", fleet="serving.yaml", target="twin:lab")

    def declared(sizes: Any, hosts: str, more: str = "", roles: str = "{}") -> dict[str, ServerSpec]:
        lines = ["fleet: hosts", "hosts:"]
        for number, (name, profile) in enumerate(PROFILES.items(), start=11):
            here = roles if profile == "training-a100" else "{}"
            lines += [
                f"  {name}: {{profile: {profile}, os: debian-12, address: 10.41.0.{number}, "
                f"identity: {{serial: RV-{number}}}, roles: {here}{FABRIC.get(name, '')}}}"
            ]
        (stacks / "hosts.yaml").write_text("\n".join(lines))
        text = SERVER.replace("HOSTS", hosts) + more
        (stacks / "serving.yaml").write_text(text.replace("anybody: true", ROUTER) if "kv_transfer" in text else text)
        (tmp_path / "weights").write_bytes(b"weights")
        sizes = None if sizes is None else dict(sizes)
        code = {"code_sha256": sizes.pop("code_sha256")} if sizes and "code_sha256" in sizes else {}
        lineage = {} if sizes is None else {"sizes": sizes, **code}
        weights = {"model.safetensors": tmp_path / "weights"}
        talk = tmp_path / "models" / "talk"
        model_directory.publish(talk, weights, "talk", (), (), lineage, runtime="vllm", replace=True)
        found = {declared.name: declared.spec for declared in declare(load_stack("serving", tmp_path))}
        return {name: spec for name, spec in found.items() if isinstance(spec, ServerSpec)}

    return declared


def refused(project: Project, *given: Any) -> str:
    with pytest.raises(DeclarationError) as error:
        project(*given)
    return str(error.value)


def test_each_host_divides_a_model_over_the_fewest_gpus_that_it_fits(project: Project) -> None:
    own = "    environment: {path: /opt/own}\n    set: {parallel: 2}\n"
    specs = project(B70, "wide, pair, instinct", own)

    assert {name: spec.settings for name, spec in specs.items()} == {
        "wide/talk": {"parallel": 2, "tensor_parallel": 2},
        "pair/talk": {"parallel": 2, "tensor_parallel": 2},
        "instinct/talk": {"parallel": 2, "tensor_parallel": 1},
    }


def test_gpus_that_no_environment_computes_on_need_one_of_the_servers_own(project: Project) -> None:
    assert refused(project, B70, "instinct") == (
        "stacks/serving.yaml:4: servers.talk: got no environment, and instinct has AMD Instinct MI300X; role workloads "
        "has environments for "
        "NVIDIA's GPUs and for processors, none for ROCm and others. Name an environment of instinct with a build for "
        "its GPUs: environment: {path: /opt/NAME}."
    )
    assert project(B70, "instinct", "    vllm: {cpu_cache_gib: 2}\n")["instinct/talk"].gpus is None


CODE = "3f" * 32


def test_a_model_with_code_of_its_own_needs_the_digest_of_it(project: Project) -> None:
    published = {**B70, "code_sha256": CODE}
    refusal = refused(project, published, "wide")
    assert f"servers.talk.vllm: got no code_sha256; the digest of the model's own code, {CODE}" in refusal
    declared = f"    vllm: {{code_sha256: {CODE}}}\n"
    assert project(published, "wide", declared)["wide/talk"].settings["vllm"]["code_sha256"] == CODE
    other = f"    vllm: {{code_sha256: {'a0' * 32}}}\n"
    assert "servers.talk.vllm.code_sha256: got a0a0" in refused(project, published, "wide", other)
    assert "the model has no code of its own" in refused(project, B70, "wide", other)


def test_a_model_of_unknown_size_has_its_declared_layout(project: Project) -> None:
    unknown = {"unknown": "config.json, model_type: the latent cache of 'longcat_flash' is not known", "weights": 7}
    refusal = refused(project, unknown, "wide")
    assert "got no layout at wide; a model of unknown size is divided over GPUs as declared" in refusal
    assert "Declare vllm.tensor_parallel" in refusal
    spec = project(unknown, "wide", "    vllm: {tensor_parallel: 8, expert_parallel: true}\n")["wide/talk"]
    assert spec.settings["tensor_parallel"] == 8
    assert project(unknown, "wide", "    set: {tensor_parallel: 4}\n")["wide/talk"].settings == {"tensor_parallel": 4}


def test_a_server_gets_its_number_of_gpus(project: Project, tmp_path: Path) -> None:
    spec, repository = project(B70, "pair")["pair/talk"], load_stack("serving", tmp_path).repository
    (report,) = [file.content for file in files(spec, repository) if file.path.endswith("/settings.json")]

    assert report is not None and ServingSettings.model_validate_json(report).tensor_parallel == 2


def test_a_division_that_is_declared_is_kept_and_checked(project: Project) -> None:
    assert project(B70, "pair", "    set: {tensor_parallel: 4}\n")["pair/talk"].settings == {"tensor_parallel": 4}
    refusals = refused(project, B70, "pair", "    set: {tensor_parallel: 8}\n")
    assert (
        "servers.talk.hosts: the model cannot be divided by tensor_parallel 8 at pair; at most 4, the number of GPUs"
        in refusals
    )


def test_what_does_not_fit_is_refused_with_the_arithmetic_and_what_would(project: Project) -> None:
    assert refused(project, R1, "wide, hopper") == (
        "stacks/serving.yaml:6: servers.talk.hosts: the model does not fit: 673.2 GB of weights on 8 GPUs "
        "(tensor_parallel 8): each has 85.1 GB of them, 1.2 GB of cache (parallel 4, context_tokens 4096) and 6.5 GB "
        "beside, 92.8 GB in all, of 76.4 GB for vLLM (90 % of 79.1 GiB) at hopper; weights and cache that fit the "
        "memory of each GPU; there is no room for the weights; as it is, it fits training-b200, training-mi300x, "
        "inference-h200; no environment of rackwright is for training-mi300x. "
        "Serve it on 2 such hosts, with tensor_parallel 8, pipeline_parallel 2, or serve it on GPUs of "
        "97 GiB."
    )


def test_what_is_named_instead_fits(project: Project) -> None:
    (named,) = re.findall(r"as it is, it fits ([^.;]*);", refused(project, R1, "hopper"))

    assert PROFILES["wide"] in named.split(", ")
    assert project(R1, "wide")["wide/talk"].settings == {"tensor_parallel": 8}


def test_texts_that_there_is_no_cache_for_are_refused(project: Project) -> None:
    refusals = refused(project, B70, "wide", "    set: {parallel: 256, context_tokens: 131072}\n")

    assert "there is room for" in refusals
    (fewer,) = re.findall(r"Set parallel to (\d+)", refusals)
    assert project(B70, "wide", f"    set: {{parallel: {fewer}, context_tokens: 131072}}\n")


@pytest.mark.parametrize("host", ["plain", "gaudi", "orin"])
def test_hosts_without_gpus_that_vllm_serves_on_are_refused(project: Project, host: str) -> None:
    want = "vLLM runs on GPUs whose memory is in the catalogue"
    assert f"servers.talk.hosts: got profile {PROFILES[host]} at {host}; {want}" in refused(project, B70, host)


def test_hosts_with_the_same_fault_are_reported_once(project: Project) -> None:
    refusals = refused(project, R1, "plain, hopper, bare")
    assert [re.findall(r" at ([a-z, ]+);", line) for line in refusals.splitlines()] == [["plain, bare"], ["hopper"]]


def test_gpus_that_are_divided_are_refused(project: Project) -> None:
    roles = '{base: {}, nvidia_driver: {version: "535", mig: [3g.40gb, 3g.40gb]}}'
    refusals = refused(project, B70, "pair", "", roles)
    assert "got GPUs that MIG divides at pair; vLLM takes whole GPUs" in refusals


@pytest.mark.parametrize("data", [None, [], {"weight_bytes": 1}, {**B70, "heads": 0}, {**OLDER, "heads": "64"}])
def test_a_model_that_does_not_say_its_sizes_is_refused(project: Project, data: Any) -> None:
    assert "servers.talk.model.path: got no sizes in its model.json" in refused(project, data, "pair")


def test_sizes_of_an_earlier_version_still_count(project: Project) -> None:
    assert project(OLDER, "pair")["pair/talk"].settings == {"tensor_parallel": 2}


def test_rows_with_labels_are_for_other_models(project: Project, tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(b"rows")
    canary = "    canary: {data: rows.npz, accuracy: 0.5}\n"
    assert "servers.talk.canary: got rows for talk, a language model" in refused(project, B70, "pair", canary)


def two_servers(first: str, second: str) -> str:
    """Return the text after the server `talk` that gives it *first*, and a server `again` on the same host *second*."""
    again = SERVER.partition("servers:\n")[2].replace("talk:", "again:").replace("HOSTS", "pair")
    return f"{first}{again}    port: 8081\n{second}"


def test_servers_that_share_a_host_declare_their_gpus(project: Project) -> None:
    refusals = refused(project, B70, "pair", two_servers("", ""))

    expected = "runs and servers that share a host declare which of its GPUs each has"
    assert refusals == (
        f"stacks/serving.yaml:4: servers.talk: got pair, which again has; {expected}. Declare vllm.gpus of talk, or "
        "choose hosts that again does not have.\n"
        f"stacks/serving.yaml:10: servers.again: got pair, which talk has; {expected}. Declare vllm.gpus of again, or "
        "choose hosts that talk does not have."
    )
    half = "    set: {parallel: 2}\n    vllm: {gpus: 2}\n"
    specs = project(B70, "pair", two_servers(half, half))
    assert {name: (spec.gpus and spec.gpus.gpus, spec.tensor_parallel) for name, spec in specs.items()} == {
        "pair/talk": (("0", "1"), 2), "pair/again": (("2", "3"), 2),
    }  # fmt: skip


def test_gpus_do_not_overlap(project: Project) -> None:
    refusals = refused(project, B70, "pair", two_servers("    vllm: {gpus: 2}\n", "    vllm: {gpus: 4}\n"))
    assert "servers.again.vllm.gpus: got 4 GPUs of pair, after 2 of others; 4 GPUs in all" in refusals
    assert "servers.talk.hosts: got 5 GPUs at pair; at most 4" in refused(project, B70, "pair", "    vllm: {gpus: 5}\n")


def test_a_replica_over_two_hosts_has_a_leader_and_a_worker(project: Project, tmp_path: Path) -> None:
    options = "{replica_hosts: 2, reasoning_parser: deepseek_r1, kv_cache_dtype: fp8, options: {enforce-eager: true}}"
    specs = project(R1, "joined-a, joined-b", f"    vllm: {options}\n")

    assert list(specs) == ["joined-b/talk", "joined-a/talk"], "the leader changes last"
    leader, worker = specs["joined-a/talk"], specs["joined-b/talk"]
    assert (leader.tensor_parallel, leader.layout) == (8, {"pipeline_parallel": 2})
    assert (leader.follows, worker.follows) == (False, True)
    replica = {"addresses": ["10.141.0.21", "10.141.0.22"], "interface": "fabric0", "port": 29500,
               "key_file": "/run/credentials/server-talk.service/lease_key"}  # fmt: skip
    vllm = {
        "pipeline_parallel": 2, "reasoning_parser": "deepseek_r1", "kv_cache_dtype": "fp8",
        "options": {"enforce-eager": True},
    }  # fmt: skip
    assert leader.settings == {"tensor_parallel": 8, "vllm": {**vllm, "replica": {**replica, "rank": 0}}}
    assert worker.settings == {"tensor_parallel": 8, "vllm": {**vllm, "replica": {**replica, "rank": 1}}}
    after = {each.name: each.after for each in declare(load_stack("serving", tmp_path))}
    assert after["joined-a/talk"] == ("joined-b/talk",)


@pytest.mark.parametrize(
    ("declared", "layout"),
    [
        ("{tensor_parallel: 1, data_parallel: 16}", {"data_parallel": 16, "expert_parallel": True}),
        ("{tensor_parallel: 16}", {}),
        ("{decode_context_parallel: 8}", {"pipeline_parallel": 2, "decode_context_parallel": 8}),
    ],
)
def test_a_declared_layout_is_held_to(project: Project, declared: str, layout: dict[str, Any]) -> None:
    vllm = declared.replace("{", "{replica_hosts: 2, ")
    assert project(R1, "joined-a, joined-b", f"    vllm: {vllm}\n")["joined-a/talk"].layout == layout


@pytest.mark.parametrize(
    ("hosts", "vllm", "expected"),
    [
        ("joined-a", "{replica_hosts: 2}", "servers.talk.vllm.replica_hosts: got 1 hosts for replicas of 2"),
        ("wide, hopper", "{replica_hosts: 2}", "servers.talk.hosts: got wide; it has no fabric"),
        (
            "wide",
            "{options: {trust-remote-code: true}}",
            "got 'other values'; option trust-remote-code is none of docs/reference/vllm-options.md",
        ),
        ("wide", "{options: {port: 1}}", "servers.talk.vllm.options: got 'other values'; option port follows from"),
        ("wide", "{reasoning_parser: 'a b'}", "servers.talk.vllm.reasoning_parser: got 'a b'"),
        (
            "joined-a, joined-b",
            "{replica_hosts: 2, tensor_parallel: 3}",
            "the model cannot be divided by tensor_parallel 3",
        ),
    ],
)
def test_what_vllm_cannot_do_is_refused(project: Project, hosts: str, vllm: str, expected: str) -> None:
    assert expected in refused(project, R1, hosts, f"    vllm: {vllm}\n")


def test_the_ports_of_replicas_are_their_own(project: Project) -> None:
    replica = "    vllm: {replica_hosts: 2, gpus: 4, tensor_parallel: 8}\n"
    again = SERVER.partition("servers:\n")[2].replace("talk:", "again:").replace("HOSTS", "joined-a, joined-b")
    refusals = refused(project, B70, "joined-a, joined-b", f"{replica}{again}    port: 8081\n{replica}")
    assert "servers.again.vllm.port: got port 29500; each server of a host has its own port" in refusals
    other = replica.replace("gpus: 4", "gpus: 4, port: 29503")
    assert len(project(B70, "joined-a, joined-b", f"{replica}{again}    port: 8081\n{other}")) == 4
    refusals = refused(project, B70, "joined-a, joined-b", f"{replica}    port: 29502\n")
    assert "servers.talk.port: got port 29502; 29500 and two more are for the replica" in refusals


def exchanging(role: str, peer: str, more: str = "") -> str:
    transfer = f"{{role: {role}, peers: [{peer}], port: 5700{more}}}"
    return f"    environment: {{path: /opt/nixl}}\n    vllm: {{tensor_parallel: 8, kv_transfer: {transfer}}}\n"


def test_servers_that_exchange_caches_reach_each_other_alone(project: Project) -> None:
    answers = SERVER.partition("servers:\n")[2].replace("talk:", "answers:").replace("HOSTS", "joined-b")
    declared = f"{exchanging('prefill', 'answers')}{answers}    port: 8081\n{exchanging('decode', 'talk')}"
    specs = project(B70, "joined-a", declared)
    prompts, other = specs["joined-a/talk"], specs["joined-b/answers"]
    for spec, address, peer in ((prompts, "10.141.0.21", "10.141.0.22"), (other, "10.141.0.22", "10.141.0.21")):
        [settings] = [file.content for file in files(spec, REPOSITORY) if file.path.endswith("settings.json")]
        transfer = ServingSettings.model_validate_json(str(settings)).vllm.kv_transfer
        assert transfer is not None
        assert (transfer.address, transfer.port, transfer.role) == (
            address,
            5700,
            "prefill" if spec is prompts else "decode",
        )
        assert [(each.address, each.port, each.ranks) for each in transfer.peers] == [(peer, 5700, 1)]
        assert spec.firewall is not None
        assert set(spec.firewall.addresses) == {"10.141.0.21", "10.141.0.22"}
    assert prompts.layout.get("data_parallel", 1) == 1, "each rank has a port that the other server knows"


def test_each_rank_of_an_exchange_has_a_port_of_its_own(project: Project) -> None:
    answers = SERVER.partition("servers:\n")[2].replace("talk:", "answers:").replace("HOSTS", "joined-a")
    ranks = exchanging("prefill", "answers").replace(
        "tensor_parallel: 8", "gpus: 4, tensor_parallel: 2, data_parallel: 2"
    )
    prompts, beside = (
        exchanging(*each).replace("tensor_parallel: 8", "gpus: 4, tensor_parallel: 4")
        for each in (("prefill", "answers"), ("decode", "talk"))
    )
    refusals = refused(project, B70, "joined-a", f"{ranks}{answers}    port: 8081\n{beside.replace('5700', '5701')}")
    assert "servers.answers.vllm.kv_transfer.port: got port 5701" in refusals
    specs = project(B70, "joined-a", f"{prompts}{answers}    port: 8081\n{beside.replace('5700', '5710')}")
    assert {name: spec.partners for name, spec in specs.items()} == {
        "joined-a/talk": ("answers",),
        "joined-a/answers": ("talk",),
    }


def test_caches_of_a_host_take_less_than_its_memory(project: Project) -> None:
    again = SERVER.partition("servers:\n")[2].replace("talk:", "again:").replace("HOSTS", "joined-a")
    cache = "    vllm: {gpus: 4, tensor_parallel: 4, kv_offload_gib: GIB}\n"
    both = [cache.replace("GIB", str(gib)) for gib in (1200, 900)]
    refusals = refused(project, B70, "joined-a", f"{both[0]}{again}    port: 8081\n{both[1]}")
    assert "servers.again.vllm.kv_offload_gib: got 900, with which caches of joined-a take 2100 GiB" in refusals
    assert "its profile has 2TB, for all programs together" in refusals
    smaller = both[1].replace("900", "400")
    assert len(project(B70, "joined-a", f"{both[0]}{again}    port: 8081\n{smaller}")) == 2


def test_a_model_that_only_the_hosts_have_is_divided_as_declared(project: Project, tmp_path: Path) -> None:
    version = "    model: {version: 0123456789ab}\n"
    path = tmp_path / "stacks" / "serving.yaml"
    project(B70, "joined-a, joined-b")
    for vllm, layout in (("{replica_hosts: 2}", None), ("{replica_hosts: 2, tensor_parallel: 16}", {})):
        path.write_text(SERVER.replace("    model: {path: models/talk}\n", version).replace(
            "HOSTS", "joined-a, joined-b") + f"    vllm: {vllm}\n")  # fmt: skip
        if layout is None:
            with pytest.raises(DeclarationError, match=r"servers.talk.hosts: got no layout at joined-a, joined-b"):
                declare(load_stack("serving", tmp_path))
        else:
            specs = [each.spec for each in declare(load_stack("serving", tmp_path))]
            found = [spec for spec in specs if isinstance(spec, ServerSpec)]
            assert [(spec.tensor_parallel, spec.layout) for spec in found] == [(16, layout)] * 2


def test_processors_need_no_gpus_in_the_catalogue(project: Project) -> None:
    one = "    vllm: {cpu_cache_gib: 2}\n"
    two = "    vllm: {cpu_cache_gib: 2, replica_hosts: 2, tensor_parallel: 2}\n"
    specs = project(B70, "plain", one) | project(B70, "joined-a, joined-b", two)

    assert [spec.tensor_parallel for spec in specs.values()] == [None, 2, 2]
    assert all(spec.settings["vllm"]["cpu_cache_gib"] == 2 for spec in specs.values())
    assert "experts" in refused(project, R1, "plain", "    vllm: {cpu_cache_gib: 2, expert_parallel: true}\n")


def test_options_of_vllm_are_for_its_models(project: Project, tmp_path: Path) -> None:
    project(B70, "wide")
    directory = tmp_path / "models" / "talk"
    weights = {"w": tmp_path / "weights"}
    model_directory.publish(directory, weights, "talk", (), (), {}, runtime="llama.cpp", replace=True)
    path = tmp_path / "stacks" / "serving.yaml"
    path.write_text(path.read_text() + "    vllm: {gpus: 2}\n")
    with pytest.raises(DeclarationError, match=r"servers.talk.vllm: got vllm and a model of llama.cpp"):
        declare(load_stack("serving", tmp_path))


def test_gpus_that_a_layout_leaves_are_named_by_check_and_before_a_preview(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project(B70, "wide, hopper", "    environment: {path: /opt/vllm}\n    set: {parallel: 2}\n")
    note = (
        "servers.talk: on wide, hopper, tensor_parallel 2 leaves 6 of 8 GPUs of the host unused: 3 more servers with "
        "vllm.gpus: 2 can use them."
    )
    assert [*server_notes(load_stack("serving", tmp_path))] == [note]

    monkeypatch.chdir(tmp_path)
    (tmp_path / "Pulumi.yaml").touch()
    result = CliRunner().invoke(app, ["check", "serving"])
    assert f"note: {note}" in " ".join(result.stderr.split()), result.output
    monkeypatch.setattr(pulumi.project, "require_twin", lambda stack: None)
    monkeypatch.setattr(pulumi, "require_loopback", lambda: None)
    capsys.readouterr()
    with pulumi._prepare("serving", pulumi.WHOLE):
        assert f"note: {note}" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("model", "hosts", "more", "notes"),
    [
        (B70, "wide", "    vllm: {gpus: 2}\n", []),
        (B70, "wide", "    vllm: {tensor_parallel: 8}\n", []),
        (R1, "wide", "", []),
        (V32, "wide", "", ["tensor_parallel 8 gives each GPU 16 of 128 heads, which vLLM's kernels of sparse attention "
                           "pad to 64: vLLM's recipe advises data_parallel with expert_parallel, and tensor_parallel 2 "
                           "on Hopper or 1 on Blackwell."]),
        (V32, "wide", "    vllm: {tensor_parallel: 1, data_parallel: 8}\n", []),
        ({"unknown": "as it is"}, "wide", "    vllm: {tensor_parallel: 8}\n", []),
    ],
)  # fmt: skip
def test_notes_are_of_the_layout_that_serves(
    project: Project, tmp_path: Path, model: Any, hosts: str, more: str, notes: list[str]
) -> None:
    project(model, hosts, f"    set: {{parallel: 2}}\n{more}")
    found = [*server_notes(load_stack("serving", tmp_path))]
    assert found == [f"servers.talk: on wide, {note}" for note in notes]

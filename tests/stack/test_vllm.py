"""A language model on GPUs: over how many each host divides it, and what is refused before any host is asked."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.kinds.model_server.files import files
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.stack import declare, load_stack
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
R1, B70 = (
    sizes(config, computed_tensors(shape_of(config))).as_data()
    for config in map(model_config, ("deepseek-r1", "llama-3.1-70b"))
)
OLDER = {
    "weight_bytes": 141_000_000_000, "cache_bytes_per_token": 327680, "context_tokens": 131072, "heads": 64,
    "cache_parts": 8,
}  # fmt: skip
PROFILES = {
    "hopper": "training-h100", "wide": "inference-h200", "pair": "training-a100", "instinct": "training-mi300x",
    "plain": "virtual", "bare": "virtual", "gaudi": "training-gaudi2", "orin": "edge-orin",
}  # fmt: skip
Project = Callable[..., dict[str, ServerSpec]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return what declares a model of *sizes* on *hosts*, and returns the specs of its servers."""
    monkeypatch.delenv("RACKWRIGHT_SALT_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    settings = {"rackwright:fleet": "serving.yaml", "rackwright:target": "twin:lab"}
    (stacks / "Pulumi.serving.yaml").write_text(json.dumps({"config": settings}))

    def declared(sizes: Any, hosts: str, more: str = "", roles: str = "{}") -> dict[str, ServerSpec]:
        lines = ["fleet: hosts", "hosts:"]
        for number, (name, profile) in enumerate(PROFILES.items(), start=11):
            here = roles if profile == "training-a100" else "{}"
            lines += [
                f"  {name}: {{profile: {profile}, os: debian-12, address: 10.41.0.{number}, "
                f"identity: {{serial: RV-{number}}}, roles: {here}}}"
            ]
        (stacks / "hosts.yaml").write_text("\n".join(lines))
        (stacks / "serving.yaml").write_text(SERVER.replace("HOSTS", hosts) + more)
        (tmp_path / "weights").write_bytes(b"weights")
        lineage = {} if sizes is None else {"sizes": sizes}
        weights = {"model.safetensors": tmp_path / "weights"}
        model_directory.publish(tmp_path / "models" / "talk", weights, "talk", (), (), lineage, runtime="vllm")
        found = {declared.name: declared.spec for declared in declare(load_stack("serving", tmp_path))}
        return {name: spec for name, spec in found.items() if isinstance(spec, ServerSpec)}

    return declared


def refused(project: Project, *given: Any) -> str:
    with pytest.raises(DeclarationError) as error:
        project(*given)
    return str(error.value)


def test_each_host_divides_a_model_over_the_fewest_gpus_that_it_fits(project: Project) -> None:
    specs = project(B70, "wide, pair, instinct", "    set: {parallel: 2}\n")

    assert {name: spec.settings for name, spec in specs.items()} == {
        "wide/talk": {"parallel": 2, "tensor_parallel": 2},
        "pair/talk": {"parallel": 2, "tensor_parallel": 2},
        "instinct/talk": {"parallel": 2, "tensor_parallel": 1},
    }


def test_a_server_is_told_over_how_many_gpus(project: Project, tmp_path: Path) -> None:
    spec, repository = project(B70, "pair")["pair/talk"], load_stack("serving", tmp_path).repository
    (told,) = [file.content for file in files(spec, repository) if file.path.endswith("/settings.json")]

    assert told is not None and ServingSettings.model_validate_json(told).tensor_parallel == 2


def test_a_division_that_is_declared_is_kept_and_checked(project: Project) -> None:
    assert project(B70, "pair", "    set: {tensor_parallel: 4}\n")["pair/talk"].settings == {"tensor_parallel": 4}
    said = refused(project, B70, "pair", "    set: {tensor_parallel: 8}\n")
    assert (
        "servers.talk.hosts: the model cannot be divided by tensor_parallel 8 at pair; at most 4, the number of GPUs"
        in said
    )


def test_what_does_not_fit_is_refused_with_the_arithmetic_and_what_would(project: Project) -> None:
    assert refused(project, R1, "wide, hopper") == (
        "stacks/serving.yaml:6: servers.talk.hosts: the model does not fit: 673.2 GB of weights on 8 GPUs "
        "(tensor_parallel 8): each has 85.1 GB of them, 1.2 GB of cache (parallel 4, context_tokens 4096) and 6.5 GB "
        "beside, 92.8 GB in all, of 76.4 GB for vLLM (90 % of 79.1 GiB) at hopper; weights and cache that fit the "
        "memory of each GPU; there is no room for the weights; as it is, it fits training-b200, training-mi300x, "
        "inference-h200. Serve it on 2 such hosts, with tensor_parallel 8, pipeline_parallel 2, or serve it on GPUs of "
        "97 GiB."
    )


def test_what_is_named_instead_fits(project: Project) -> None:
    (named,) = re.findall(r"as it is, it fits ([^.]*)\.", refused(project, R1, "hopper"))

    assert PROFILES["wide"] in named.split(", ")
    assert project(R1, "wide")["wide/talk"].settings == {"tensor_parallel": 8}


def test_texts_that_there_is_no_cache_for_are_refused(project: Project) -> None:
    said = refused(project, B70, "wide", "    set: {parallel: 256, context_tokens: 131072}\n")

    assert "there is room for" in said
    (fewer,) = re.findall(r"Set parallel to (\d+)", said)
    assert project(B70, "wide", f"    set: {{parallel: {fewer}, context_tokens: 131072}}\n")


@pytest.mark.parametrize("host", ["plain", "gaudi", "orin"])
def test_hosts_without_gpus_that_vllm_serves_on_are_refused(project: Project, host: str) -> None:
    want = "vLLM runs on GPUs whose memory is in the catalogue"
    assert f"servers.talk.hosts: got profile {PROFILES[host]} at {host}; {want}" in refused(project, B70, host)


def test_hosts_with_the_same_fault_are_told_once(project: Project) -> None:
    said = refused(project, R1, "plain, hopper, bare")
    assert [re.findall(r" at ([a-z, ]+);", line) for line in said.splitlines()] == [["plain, bare"], ["hopper"]]


def test_gpus_that_are_divided_are_refused(project: Project) -> None:
    roles = '{base: {}, nvidia_driver: {version: "535", mig: [3g.40gb, 3g.40gb]}}'
    said = refused(project, B70, "pair", "", roles)
    assert "got GPUs that MIG divides at pair; vLLM takes whole GPUs" in said


@pytest.mark.parametrize("data", [None, [], {"weight_bytes": 1}, {**B70, "heads": 0}, {**OLDER, "heads": "64"}])
def test_a_model_that_does_not_say_its_sizes_is_refused(project: Project, data: Any) -> None:
    assert "servers.talk.model.path: got no sizes in its model.json" in refused(project, data, "pair")


def test_sizes_of_an_earlier_version_still_count(project: Project) -> None:
    assert project(OLDER, "pair")["pair/talk"].settings == {"tensor_parallel": 2}


def test_rows_with_labels_are_for_other_models(project: Project, tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(b"rows")
    canary = "    canary: {data: rows.npz, accuracy: 0.5}\n"
    assert "servers.talk.canary: got rows for talk, a language model" in refused(project, B70, "pair", canary)


def test_two_of_them_do_not_share_a_host(project: Project) -> None:
    second = SERVER.partition("servers:\n")[2].replace("talk:", "again:").replace("HOSTS", "wide, pair")
    said = refused(project, B70, "pair", f"{second}    port: 8081\n")

    assert said == (
        "stacks/serving.yaml:10: servers.again: got pair; each vLLM begins at a host's first GPU, which another one "
        "uses. Choose hosts that talk does not have."
    )

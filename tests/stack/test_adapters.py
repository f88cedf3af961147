"""LoRA adapters of a declared server, read from their directories."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rackwright.errors import DeclarationError
from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.stack import declare, load_stack
from tests.support.stack_settings import configure, new_project
from workloads.serving.place import place
from workloads.serving.vllm_settings import Adapter

HOSTS = """\
fleet: hosts
hosts:
  plain: {profile: virtual, os: debian-12, address: 10.41.0.11, identity: {serial: RV-11}}
"""
DIGEST = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], ServerSpec]:
    """Return what declares adapters, and returns the spec of their server."""
    house = tmp_path / "adapters" / "house"
    house.mkdir(parents=True)
    (house / "adapter_config.json").write_text('{"r": 8, "peft_type": "LORA"}')
    (house / "adapter_model.safetensors").write_bytes(b"weights")
    (house / "README.md").write_text("not for hosts")
    stacks = new_project(tmp_path, monkeypatch, {"hosts.yaml": HOSTS}) / "stacks"
    configure(tmp_path, "work", fleet="work.yaml", target="twin:lab")

    def declared(adapters: dict[str, Any]) -> ServerSpec:
        server = {
            "model": {"version": "0123456789ab"}, "hosts": ["plain"], "anybody": True, "listen": "everywhere",
            "gate": {"accuracy_kept": None}, "vllm": {"cpu_cache_gib": 1, "adapters": adapters},
        }  # fmt: skip
        fleet = {"fleet": "work", "uses": "hosts.yaml", "servers": {"talk": server}}
        (stacks / "work.yaml").write_text(json.dumps(fleet))
        [found] = declare(load_stack("work", tmp_path))
        assert isinstance(found.spec, ServerSpec)
        return found.spec

    return declared


def refused(project: Callable[[dict[str, Any]], ServerSpec], adapters: dict[str, Any]) -> str:
    with pytest.raises(DeclarationError) as error:
        project(adapters)
    return str(error.value)


def test_an_adapter_of_this_computer_is_copied_with_what_vllm_reads(project, tmp_path: Path) -> None:
    spec = project({"house": {"path": "adapters/house", "sha256": DIGEST}})
    house = spec.adapters["house"]
    assert (house.rank, house.source) == (8, str(tmp_path / "adapters/house"))
    assert house.files.keys() == {"adapter_config.json", "adapter_model.safetensors"}
    assert spec.adapter_directory("house") == f"/var/lib/rackwright/servers/talk/adapters/{house.version}"
    assert spec.settings["vllm"] == {
        "cpu_cache_gib": 1, "adapters_file": "/etc/rackwright/servers/talk/adapters.json", "adapters_rank": 8
    }  # fmt: skip


def test_the_host_accepts_it_as_a_whole(project, tmp_path: Path) -> None:
    house = project({"house": {"path": "adapters/house", "sha256": DIGEST}}).adapters["house"]
    assert house.version and house.source and house.manifest
    target = tmp_path / "host"
    partial = target / f".{house.version}.partial"
    partial.mkdir(parents=True)
    for name in house.files:
        (partial / name).write_bytes((Path(house.source) / name).read_bytes())
    (partial / "model.json").write_text(house.manifest)
    place(target, house.version, None, None)
    assert sorted(path.name for path in (target / house.version).iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "model.json"
    ]  # fmt: skip


def test_another_configuration_is_another_version(project, tmp_path: Path) -> None:
    declared = {"house": {"path": "adapters/house", "sha256": DIGEST}}
    before = project(declared).adapters["house"].version
    (tmp_path / "adapters/house/adapter_config.json").write_text('{"r": 8, "lora_alpha": 32}')
    assert project(declared).adapters["house"].version != before


def test_an_adapter_of_the_host_is_left_where_it_is(project) -> None:
    spec = project({"house": {"directory": "/srv/house", "sha256": DIGEST, "rank": 32}})
    assert spec.adapter_versions == ()
    assert spec.adapter_directory("house") == "/srv/house"
    Adapter.model_validate({"directory": "/srv/house", "sha256": DIGEST, "rank": 32})


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"path": "adapters/none"}, "house.path: got adapters/none: No such file or directory"),
        ({"path": "adapters/house", "sha256": "ab" * 32}, f"adapter_model.safetensors has {DIGEST}"),
        ({"path": "adapters/house", "rank": 16}, "house.rank: got 16; adapter_config.json has r 8"),
        ({"path": "../house"}, "a path does not leave its directory"),
        ({"path": "adapters/house", "directory": "/srv/house"}, "got path and directory"),
        ({}, "got neither path nor directory"),
    ],
)
def test_what_is_wrong_is_refused_by_name(project, adapter: dict[str, Any], message: str) -> None:
    assert message in refused(project, {"house": {"sha256": DIGEST, **adapter}})


def test_all_wrong_adapters_are_in_one_error(project) -> None:
    gone = {"path": "adapters/none", "sha256": DIGEST}
    text = refused(project, {"a": gone, "b": gone})
    assert "adapters.a.path" in text and "adapters.b.path" in text

"""LoRA adapters of a running server: loaded, replaced and unloaded without a restart."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_servers import ask, eventually, here
from tests.workloads.serving.vllm_app import VllmApp
from workloads.errors import UserError
from workloads.serving import load_adapters
from workloads.serving.runtimes import adapter_loader
from workloads.serving.runtimes.adapter_loader import LOAD, UNLOAD, AdapterLoader
from workloads.serving.switch import NotServing, SwitchPlan
from workloads.serving.vllm_settings import VllmSettings

PLAN = SwitchPlan(name="talk", unit="server-talk.service", lib="/lib", socket="/none", account="root", ready_seconds=1)


class Adapters:
    """A file of adapters, and their directories."""

    def __init__(self, top: Path) -> None:
        self.top, self.path = top, top / "adapters.json"
        self.write({})

    def write(self, named: dict[str, str], rank: int = 8, sha256: str | None = None) -> None:
        """Write the file, with the weights of each adapter by its name."""
        adapters = {}
        for name, weights in named.items():
            directory = self.top / weights
            directory.mkdir(exist_ok=True)
            (directory / "adapter_model.safetensors").write_text(weights)
            digest = sha256 or hashlib.sha256(weights.encode()).hexdigest()
            adapters[name] = {"directory": str(directory), "sha256": digest, "rank": rank}
        self.path.write_text(json.dumps(adapters))

    def directories(self, **named: str) -> dict[str, str]:
        return {name: str(self.top / weights) for name, weights in named.items()}


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    return Adapters(tmp_path)


@pytest.fixture
def posted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Return what is posted to vLLM, which accepts all of it."""
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(AdapterLoader, "_post", lambda self, path, name, body: found.append((path, body)))
    return found


def loader(adapters: Adapters) -> AdapterLoader:
    settings = VllmSettings(adapters_file=str(adapters.path), adapters_rank=8)
    return AdapterLoader(settings, adapters.top / "socket", "key")


def test_what_differs_is_loaded_replaced_and_unloaded(adapters: Adapters, posted) -> None:
    adapters.write({"house": "first", "old": "old"})
    loaded = loader(adapters)
    assert loaded.directories() == adapters.directories(house="first", old="old")
    adapters.write({"house": "second", "new": "new"})
    loaded.load()

    new, second = str(adapters.top / "new"), str(adapters.top / "second")
    assert posted == [
        (UNLOAD, {"lora_name": "old"}),
        (LOAD, {"lora_name": "house", "lora_path": second, "load_inplace": True}),
        (LOAD, {"lora_name": "new", "lora_path": new, "load_inplace": False}),
    ]
    assert loaded.directories() == adapters.directories(house="second", new="new")
    loaded.load()
    assert len(posted) == 3, "nothing differs any more"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "ab" * 32}, "the adapter house with the sha256 abababababab"),
        ({"rank": 9}, "the adapter house has rank 9"),
    ],
)
def test_an_adapter_that_does_not_fit_changes_nothing(adapters: Adapters, posted, change, message: str) -> None:
    loaded = loader(adapters)
    adapters.write({"house": "first"}, **change)
    with pytest.raises(UserError, match=message):
        loaded.load()
    assert (posted, loaded.directories()) == ([], {})


def test_a_refusal_of_vllm_keeps_the_adapters_before(adapters: Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = loader(adapters)
    adapters.write({"house": "first"})
    monkeypatch.setattr(adapter_loader, "SECONDS", 1.0)
    with pytest.raises(UserError, match="vLLM refuses load_lora_adapter: no answer"):
        loaded.load()
    assert loaded.directories() == {}


def test_a_signal_loads_the_file_again_and_ready_names_the_adapters(adapters: Adapters, posted, tmp_path: Path) -> None:
    app = VllmApp(tmp_path / "socket")
    app.adapters = loader(adapters)  # type: ignore[attr-defined]
    with app.running() as vllm, here(vllm) as server:
        assert ask(server.address, "/ready").json["adapters"] == {}
        adapters.write({"house": "first"})
        server.server._reload.set()
        eventually(lambda: ask(server.address, "/ready").json["adapters"] == adapters.directories(house="first"))
        adapters.write({"house": "first"}, sha256="ab" * 32)
        server.server._reload.set()
        eventually(lambda: any("sha256" in line.get("reason", "") for line in server.log))
        assert ask(server.address, "/v1/load_lora_adapter", b"{}").status == 404, "no client loads adapters"
    events = [line for line in server.log if line["event"] == "adapters"]
    assert events[0] == {"event": "adapters", "loaded": ["house"]}


def test_the_command_waits_for_the_server(adapters: Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters.write({"house": "first"})
    commands: list[list[str]] = []
    monkeypatch.setattr(load_adapters.subprocess, "run", lambda argv, **options: commands.append(argv))
    monkeypatch.setattr(
        load_adapters, "_loaded_adapters", lambda server: adapters.directories(house="first") if commands else {}
    )
    assert load_adapters.load_adapters(PLAN, adapters.path) == ["house"]
    assert commands == [["systemctl", "reload", PLAN.unit]]
    monkeypatch.setattr(load_adapters, "_loaded_adapters", lambda server: {})
    with pytest.raises(NotServing, match="the server has the adapters: none"):
        load_adapters.load_adapters(PLAN, adapters.path, seconds=0)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"house": {}}'])
def test_a_file_that_is_wrong_is_refused(adapters: Adapters, content: str | None) -> None:
    adapters.path.unlink()
    if content is not None:
        adapters.path.write_text(content)
    with pytest.raises(UserError, match="the adapters cannot be read"):
        loader(adapters)

"""The LoRA adapters of a server on its host: copied like models, and loaded while the server runs."""

from collections.abc import Iterator
from typing import Protocol

from rackwright.core.contract import Absent, Claim, Command, Put, Remove, Send, Step, Value, Want
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server.spec import ServerSpec

PLACE_SECONDS = 3720
"""Seconds for the step that places an adapter; `workloads.serving.place` stops after 3600 s."""
WHOLE = "whole"
_CLEAR = """set -eu
install -d -m 0750 -o root -g "$3" "$2"
rm -rf "$1"
install -d -m 0700 -o root -g root "$1"
"""
_SWEEP = """set -eu
lib=$1
shift
for version; do rm -rf "$lib/adapters/$version"; done
"""


class RunModule(Protocol):
    """Returns the step that runs a module of `workloads.serving` on the host."""

    def __call__(self, text: str, seconds: float, module: str, *arguments: str) -> Command: ...


def claims(spec: ServerSpec) -> Iterator[Claim]:
    """Yield the claim that the host has the copied adapters and no others, and that the server has loaded all.

    Clients ask the leader of a replica alone, so that its workers report no adapters.
    """
    if spec.declared.vllm is None:
        return
    want: dict[str, Want] = {"whole": spec.adapter_versions, "others": ()}
    if not spec.follows:
        want["loaded"] = tuple(f"{name}: {spec.adapter_directory(name)}" for name in sorted(spec.adapters))
    yield Claim(f"adapters:{spec.name}", want)


def observe(facts: Facts, server_name: str, name: str, claim: Claim) -> Value:
    """Return a property of the adapters: the whole declared ones, the others, or those that the server has loaded."""
    server = facts.server(server_name)
    if server is None:
        return Absent()
    if name == "loaded":
        return tuple(f"{adapter}: {directory}" for adapter, directory in sorted(server.loaded_adapters.items()))
    declared = claim.want["whole"]
    whole = {version for version, state in server.adapters.items() if state == WHOLE}
    if name == "whole":
        return tuple(sorted(version for version in whole if isinstance(declared, tuple) and version in declared))
    return tuple(sorted(version for version in server.adapters if not _is_in(version, declared)))


def _is_in(version: str, declared: Want) -> bool:
    return isinstance(declared, tuple) and version in declared


def place(spec: ServerSpec, facts: Facts, run: RunModule) -> Iterator[Step]:
    """Yield the steps that copy each adapter that the host does not have: sent, verified, and moved as a whole."""
    server = facts.server(spec.name)
    present = server.adapters if server else {}
    folder, owner = f"{spec.lib}/adapters", f"root:{spec.account}"
    for version in spec.adapter_versions:
        if present.get(version) == WHOLE:
            continue
        name, adapter = next((name, each) for name, each in spec.adapters.items() if each.version == version)
        partial = f"{folder}/.{version}.partial"
        yield Command(f"clear {partial}", ("sh", "-c", _CLEAR, "sh", partial, folder, spec.account))
        for file, sha256 in adapter.files.items():
            text, source = f"send adapter {name} {version}: {file}", f"{adapter.source}/{file}"
            yield Send(text, source, f"{partial}/{file}", sha256, 0o640, owner)
        assert adapter.manifest is not None
        yield Put(f"write {partial}/model.json", f"{partial}/model.json", adapter.manifest, 0o640, owner)
        yield run(f"verify adapter {name} {version}", PLACE_SECONDS, "place", folder, version)


def sweep(spec: ServerSpec, facts: Facts) -> Iterator[Step]:
    """Yield the step that removes adapters that are no longer declared."""
    server = facts.server(spec.name)
    old = sorted(version for version in (server.adapters if server else {}) if version not in spec.adapter_versions)
    if old:
        text = f"remove adapters that are no longer declared: {', '.join(old)}"
        yield Command(text, ("sh", "-c", _SWEEP, "sh", spec.lib, *old))
    if not spec.adapters:
        yield Remove(f"remove {spec.adapters_file}", spec.adapters_file)

"""A model server as it is declared and as it is found."""

import json
from typing import Any

from rackwright.core import diff as comparison
from rackwright.core.contract import Difference, Plan
from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.kinds.model_server import ModelServerKind
from rackwright.kinds.model_server.files import files, release_of
from rackwright.kinds.model_server.spec import CanaryRows, ServerSpec
from rackwright.kinds.shared.ownership import owner_text
from rackwright.kinds.shared.service_account import owner
from rackwright.schema.server import Canary, ServedModel, Server, ServerKey
from tests.support.firewall_facts import with_table
from tests.support.raw_facts import LOADED
from tests.support.recorded_hosts import STACK, recorded
from tests.support.specs import changed

VERSION, OTHER = "0123456789ab", "ba9876543210"
REPOSITORY = STACK.repository
SPEC = ServerSpec(
    host="ember", identity={"serial": "RP-EMBER"}, fleet="serving", name="digits", address="10.141.0.11",
    declared=Server(
        model=ServedModel(path="models/digits"), hosts=("ember",), keys={"app": ServerKey(secret="digits_app")},
        ready_seconds=60, set={"threads": 1},
    ),
    interface="fabric0", model="digits", version=VERSION, source="/project/models/digits",
    files={"model.onnx": "ab" * 32, "model.json": "cd" * 32}, key="training_key",
    environment="/opt/workloads",
)  # fmt: skip
CANARY = {
    "canary": Canary(data="rows.npz", accuracy=0.9),
    "rows": CanaryRows(source="/project/rows.npz", sha256="ef" * 32),
}
"""The fields of a spec whose canary is only checked before a release serves."""
WATCHED = changed(SPEC, **{**CANARY, "canary": Canary(data="rows.npz", accuracy=0.9, every="15min", roll_back=True)})
TIMER = "watch-digits.timer"
KIND = ModelServerKind()


def bare() -> dict[str, Any]:
    """Return facts of the host before there was a server."""
    return with_table({**recorded("ember"), "servers": {}, "gpu_assignments": {}, "nftables": {}}, None)


def served(spec: ServerSpec = SPEC) -> dict[str, Any]:
    """Return facts of the host as it is while *spec* is served there."""
    raw = with_table(bare(), spec.firewall)
    for file in files(spec, REPOSITORY):
        assert file.content is not None
        entry = {"digest": REPOSITORY.digest(file.content), "mode": f"{file.mode:04o}", "owner": owner(file, spec)}
        raw["files"][file.path] = {**entry, "mtime_ns": 1}
    for path in (spec.etc, spec.lib):
        raw["directories"][path] = {"mode": "0750", "owner": f"root:{spec.account}", "mtime_ns": 1}
    raw["users"][spec.account] = {
        **raw["users"]["run-digits"], "groups": [spec.account], "home": "/nonexistent",
        "shell": "/usr/sbin/nologin", "password": "locked",
    }  # fmt: skip
    raw["units"][spec.unit] = {**raw["units"]["training-digits.service"], "enabled": "enabled", "active": "active"}
    if spec.watch:
        raw["units"][TIMER] = {**raw["units"][spec.unit], "enabled": "enabled", "active": "active"}
        raw["units"]["watch-digits.service"] = {**raw["units"][spec.unit], "active": "inactive"}
    raw["owners"][spec.owner] = json.loads(owner_text(spec.id, spec.fleet, "ready"))
    raw["servers"]["digits"] = {
        "ready": True, "version": VERSION, "why": None, "release": release_of(spec, REPOSITORY), "previous": OTHER,
        "refused": None, "accuracy": None, "adapters": dict.fromkeys(spec.adapter_versions, "whole"),
        "loaded_adapters": {name: spec.adapter_directory(name) for name in spec.adapters},
        "models": {VERSION: "whole", OTHER: "whole"}, "manifests": {VERSION: SPEC.files["model.json"]},
        "has_state": True, "others": [], "canary_rows": {f"{'ef' * 6}.npz": "whole"},
        "figures": {"requests": 10, "p50_ms": 1.0, "p99_ms": 5.0, "waiting": 0},
    }  # fmt: skip
    raw["loads"][spec.unit] = {**LOADED}
    return raw


def differences(
    raw: dict[str, Any], spec: ServerSpec = SPEC, repository: Repository = REPOSITORY
) -> tuple[Difference, ...]:
    """Return how the facts *raw* differ from *spec*."""
    claims = KIND.claims(spec, repository)
    return comparison.diff(claims, KIND.observe(claims, Facts(raw)))


def texts(plan: Plan) -> list[str]:
    """Return the texts of the steps of *plan*."""
    return [step.text for step in plan.steps]

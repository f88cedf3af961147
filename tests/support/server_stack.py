"""A stack of model servers, and the models that it publishes."""

from pathlib import Path

import pytest

from rackwright.kinds.model_server.spec import ServerSpec
from rackwright.stack import declare, load_stack
from tests.support.log import ROOT
from tests.support.stack_settings import configure, new_project
from workloads.serving import model as model_directory
from workloads.serving.model import Tensor

HOSTS = ROOT / "tests/fleet/wrong_runs/pair.yaml"
SERVERS = """\
fleet: serving
uses: pair.yaml
servers:
  # the digits
  digits:
    model: {path: models/digits}  # as published
    hosts: [cinder, ember]
    keys: {app: {secret: digits_app}}
    set: {max_batch: 8}
  plain:
    model:
      tier: warm
      path: models/plain
      version: "0123456789ab"
    group: pair
    port: 8081
    anybody: true
    listen: everywhere
    gate: {accuracy_kept: null}
"""


def publish(directory: Path, content: bytes, kept: float | None) -> str:
    """Publish a model whose report says how much of its accuracy it *kept*, and return its version."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    (directory.parent / "weights").write_bytes(content)
    tensor = Tensor(name="x", datatype="FP32", shape=(-1, 2))
    lineage = {} if kept is None else {"gate": {"found": {"accuracy_kept": kept}}}
    files = {"model.onnx": directory.parent / "weights"}
    return model_directory.publish(directory, files, "digits", (tensor,), (tensor,), lineage, replace=True).version


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new_project(tmp_path, monkeypatch, {"pair.yaml": HOSTS.read_text(), "serving.yaml": SERVERS})
    configure(tmp_path, "serving", fleet="serving.yaml", target="twin:lab")
    publish(tmp_path / "models" / "digits", b"one", 0.99)
    return tmp_path


def declare_environments(project: Path) -> None:
    """Declare the environment of each server of *project*, whose hosts lack role workloads."""
    fleet = project / "stacks" / "serving.yaml"
    fleet.write_text(fleet.read_text().replace("    model:", "    environment: {path: /opt/serving}\n    model:"))


def specs(project: Path) -> dict[str, ServerSpec]:
    found = {declared.name: declared.spec for declared in declare(load_stack("serving", project))}
    assert all(isinstance(spec, ServerSpec) for spec in found.values())
    return found  # type: ignore[return-value]


BASE = f"registry.example/python@sha256:{'0123456789abcdef' * 4}"

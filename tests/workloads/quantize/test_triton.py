"""Model repositories of Triton: read with Triton's own messages, and computed by ONNX Runtime."""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from tests.workloads.quantize.test_quantize import quantized
from workloads.quantize import render
from workloads.quantize.triton import config, export, main
from workloads.serving import model as model_directory
from workloads.serving.model import Tensor, publish

X = Tensor(name="x", datatype="FP32", shape=(-1, 8, 8))
TEXT = Tensor(name="text", datatype="BYTES", shape=(1, -1))


def parsed(directory: Path) -> ModelConfig:
    return text_format.Parse((directory / "config.pbtxt").read_text(), ModelConfig())


def published(tmp_path: Path, runtime: str, tensors: tuple[Tensor, ...] = (X,), **lineage: object) -> Path:
    name = "e.engine" if runtime == "tensorrt" else "model.onnx"
    (tmp_path / name).write_bytes(b"an engine")
    publish(tmp_path / "model", {name: tmp_path / name}, "digits", tensors, tensors, lineage, runtime=runtime)  # type: ignore[arg-type]
    return tmp_path / "model"


def test_a_model_with_its_weights_apart_computes_the_same_in_a_repository(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "SEPARATE_BYTES", 10_000)
    assert quantized(training, tmp_path / "int8", "search=false") == 0
    assert main([str(tmp_path / "int8"), "--out", str(tmp_path / "repository"), "--max-batch", "64"]) == 0
    [directory] = (tmp_path / "repository").iterdir()
    found = parsed(directory)

    model = model_directory.read(tmp_path / "int8")
    assert (found.name, found.backend, found.max_batch_size) == (model.name, "onnxruntime", 64) == (
        directory.name, "onnxruntime", 64,
    )  # fmt: skip
    assert [(each.name, each.data_type, list(each.dims)) for each in found.input] == [("x", 11, [8, 8])]
    assert [(each.name, list(each.dims)) for each in found.output] == [("logits", [10])]
    assert found.instance_group[0].kind == ModelInstanceGroup.KIND_CPU
    assert found.HasField("dynamic_batching")
    assert found.parameters["rackwright_version"].string_value == model.version
    rows = {"x": np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 8, 8)}
    outputs = [
        onnxruntime.InferenceSession(path / "model.onnx").run(None, rows)[0]
        for path in (directory / "1", tmp_path / "int8")
    ]
    assert (outputs[0] == outputs[1]).all()


def test_an_engine_is_a_plan_with_its_own_largest_batch(tmp_path: Path) -> None:
    engine = {"library": "tensorrt", "max_batch": 16}
    written = export(published(tmp_path, "tensorrt", target="t4", engine=engine), tmp_path / "repository", 32)

    assert (written / "1" / "model.plan").read_bytes() == b"an engine"
    found = parsed(written)
    assert (found.backend, found.max_batch_size, found.instance_group[0].kind) == (
        "tensorrt", 16, ModelInstanceGroup.KIND_GPU,
    )  # fmt: skip


def test_a_model_without_batches_keeps_whole_shapes(tmp_path: Path) -> None:
    model = model_directory.read(published(tmp_path, "onnx", (X, TEXT)))
    found = text_format.Parse(config(model, 32), ModelConfig())
    assert found.max_batch_size == 0 and not found.HasField("dynamic_batching") and not found.instance_group
    assert [(each.data_type, list(each.dims)) for each in found.input] == [(11, [-1, 8, 8]), (13, [1, -1])]


@pytest.mark.parametrize(
    ("runtime", "engine", "problem"),
    [("vllm", {}, "is for vllm"), ("tensorrt", {"library": "tensorrt_rtx"}, "is for tensorrt_rtx")],
)
def test_a_model_that_triton_cannot_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], runtime: str, engine: dict, problem: str
) -> None:
    assert main([str(published(tmp_path, runtime, engine=engine)), "--out", str(tmp_path / "repository")]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()


def test_a_repository_keeps_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [str(published(tmp_path, "onnx")), "--out", str(tmp_path / "repository")]
    assert main(argv) == 0
    digits = tmp_path / "repository" / "digits"
    assert main(argv) == 2
    assert f"{digits}: it has a model of this name" in capsys.readouterr().err
    (digits / "1" / "old").touch()
    assert main([*argv, "--replace"]) == 0
    assert sorted(path.name for path in digits.rglob("*")) == ["1", "config.pbtxt", "model.onnx"]
    (digits / "config.pbtxt").write_text('name: "digits"')
    assert main([*argv, "--replace"]) == 2
    assert f"{digits}: it exists, and is not a model that this command wrote" in capsys.readouterr().err


def test_without_tritons_messages_the_missing_module_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    assert main([str(published(tmp_path, "onnx")), "--out", str(tmp_path / "repository")]) == 2
    assert "tritonclient: the module tritonclient" in capsys.readouterr().err

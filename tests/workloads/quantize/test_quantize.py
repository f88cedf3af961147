"""The digits, trained here, from a checkpoint to a model that is served, or refused."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.support.model_servers import INFER, ask, request, served
from workloads.errors import UserError
from workloads.quantize import render, score
from workloads.quantize.__main__ import main
from workloads.quantize.samples import Samples
from workloads.serving import model
from workloads.serving.runtimes import load_runtime
from workloads.serving.runtimes.onnx import OnnxRuntime
from workloads.training.config import Digits
from workloads.training.data import held_out


def quantized(
    training: Path, out: Path, *changes: str, target: str = "cpu", data: str = "digits", reason: str = "",
    replace: bool = False,
) -> int:  # fmt: skip
    given = [argument for change in ("repeats=3", *changes) for argument in ("--set", change)]
    given += ["--publish-slower", reason] if reason else []
    given += ["--replace"] if replace else []
    return main([str(training), "--data", data, "--target", target, "--out", str(out), *given])


def report(out: Path) -> dict:
    return json.loads((out.with_name(f"{out.name}.report") / "report.json").read_text())


def test_a_checkpoint_becomes_a_model_that_is_served(training: Path, tmp_path: Path) -> None:
    out = tmp_path / "digits"
    assert quantized(training, out) == 0
    found = model.read(out)
    model.verify(out, found)
    unseen = held_out(Digits())
    with served(out, "max_batch=512") as server:
        answer = ask(server.address, INFER.format("digits"), request(unseen.x.numpy()))
        lineage = ask(server.address, "/v2/models/digits").json["lineage"]
    logits = np.array(answer.json["outputs"][0]["data"]).reshape(-1, 10)

    document = report(out)
    assert (logits.argmax(1) == unseen.y.numpy()).mean() == pytest.approx(document["gate"]["found"]["accuracy"])
    assert document["after"]["bytes"] < 0.5 * document["before"]["bytes"]
    assert document["after"]["weight_bytes"] < 0.3 * document["before"]["weight_bytes"]
    assert document["rows"]["held_out"] == 359
    assert lineage["gate"]["passed"] is True
    assert lineage["gate"]["loosened"] == []
    assert lineage["source"]["training"]["step"] == 100
    assert lineage["precision"] == "int8"


def test_below_the_gate_nothing_is_published_and_the_report_says_why(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "digits"
    assert quantized(training, out, "gate.cosine=1.0", "gate.agreement=0.5") == 1
    assert not out.exists()
    document = report(out)
    text = (tmp_path / "digits.report" / "report.md").read_text()

    assert [lack.split()[0] for lack in document["shortfalls"]] == ["cosine"]
    assert document["gate"]["loosened"] == ["agreement"]
    assert list(document["costs"]) == sorted(document["costs"], key=lambda layer: -document["costs"][layer])
    assert set(document["costs"]) == {"/first/Conv", "/second/Conv", "/head/Gemm"}
    assert "**Not published**: cosine" in text
    assert "| /first/Conv |" in text
    assert capsys.readouterr().err.startswith("not published: cosine 9")


def test_a_slower_model_is_refused_or_published_with_a_reason(
    training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: list
) -> None:
    out, fast = tmp_path / "digits", ("search=false",)
    monkeypatch.setitem(seconds[1], 32, 0.025)  # faster one by one, and slower in batches
    assert quantized(training, out, *fast) == 1
    assert not out.exists()
    assert "not published: speed 0.80 times the original's, at least 0.95 (--publish" in capsys.readouterr().err
    assert "| speed | 0.80 times | 0.95 times |" in (tmp_path / "digits.report" / "report.md").read_text()

    assert quantized(training, out, *fast, reason="it fits the memory") == 2
    assert "an earlier report has this name" in capsys.readouterr().err
    assert quantized(training, out, *fast, reason="it fits the memory", replace=True) == 0
    assert "rows per second 1.25 times slower" in capsys.readouterr().out
    gate = model.read(out).lineage["gate"]
    assert (gate["loosened"], gate["publish_slower"]) == (["speed"], "it fits the memory")
    assert gate["found"]["speed"] == pytest.approx(0.8)
    text = (tmp_path / "digits.report" / "report.md").read_text()
    assert "loosened by hand: speed." in text and "may be published: it fits the memory." in text


@pytest.mark.parametrize(("target", "precision"), [("t4", "int8"), ("cpu", "fp32")])
def test_speed_is_judged_for_8_bits_on_this_processor_alone(
    training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: list, target: str, precision: str
) -> None:
    monkeypatch.setitem(seconds[1], 32, 0.025)
    assert quantized(training, tmp_path / "out", f"precision={precision}", "search=false", target=target) == 0
    assert report(tmp_path / "out")["gate"]["found"]["speed"] is None
    assert "| speed | not judged |" in (tmp_path / "out.report" / "report.md").read_text()


def test_what_was_published_stays_where_the_next_is_refused(training: Path, tmp_path: Path) -> None:
    out = tmp_path / "digits"
    assert quantized(training, out, "precision=fp32") == 0
    before = model.read(out)
    assert quantized(training, out, "search=false", "gate.cosine=1.0", replace=True) == 1
    assert model.read(out) == before


def test_full_precision_is_the_original(training: Path, tmp_path: Path) -> None:
    assert quantized(training, tmp_path / "digits", "precision=fp32") == 0
    found = report(tmp_path / "digits")["gate"]["found"]
    assert (found["accuracy_kept"], found["agreement"]) == (1, 1)


def test_half_precision_is_what_an_older_gpu_gets(training: Path, tmp_path: Path) -> None:
    assert quantized(training, tmp_path / "digits", target="v100-16gb") == 0
    document = report(tmp_path / "digits")
    assert document["precision"] == "fp16"
    assert document["after"]["weight_bytes"] == pytest.approx(document["before"]["weight_bytes"] / 2, rel=0.02)


def test_an_onnx_file_and_rows_of_ones_own(training: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantized(training, tmp_path / "first", "precision=fp32") == 0
    unseen = held_out(Digits())
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=unseen.x.numpy())
    file = tmp_path / "mine.onnx"
    file.write_bytes((tmp_path / "first" / "model.onnx").read_bytes())

    assert quantized(file, tmp_path / "out", data=str(rows)) == 2
    assert "the gate compares accuracies, which need labels" in capsys.readouterr().err
    assert quantized(file, tmp_path / "out", "gate.accuracy_kept=null", data=str(rows)) == 0
    found = model.read(tmp_path / "out")
    assert found.name == "mine"
    assert found.lineage["source"]["file"] == "mine.onnx"
    assert found.lineage["gate"]["loosened"] == ["accuracy_kept"]
    assert found.lineage["gate"]["found"]["accuracy_kept"] is None


def test_a_checkpoint_alone_is_a_model_and_the_parent(training: Path, tmp_path: Path) -> None:
    checkpoint = max((training / "checkpoints").glob("step-*"))
    for what, out in ((training, "whole"), (checkpoint, "alone")):
        assert quantized(what, tmp_path / out, "precision=fp32") == 0
    whole, alone = (model.read(tmp_path / out) for out in ("whole", "alone"))
    assert alone == whole
    digest = sha256((checkpoint / "manifest.json").read_bytes()).hexdigest()
    assert alone.lineage["parent"] == {"sha256": digest, "version": ""}

    assert quantized(tmp_path / "whole", tmp_path / "again", "precision=fp32") == 0
    digest = sha256((tmp_path / "whole" / "model.json").read_bytes()).hexdigest()
    assert model.read(tmp_path / "again").lineage["parent"]["sha256"] == digest


def test_a_large_model_has_its_numbers_apart(training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quantized(training, tmp_path / "whole") == 0
    monkeypatch.setattr(render, "SEPARATE_BYTES", 10_000)
    assert quantized(training, tmp_path / "apart") == 0
    assert {*model.read(tmp_path / "apart").files} == {"model.onnx", model.WEIGHTS}
    rows = {"x": held_out(Digits()).x.numpy()}

    def answers(directory: Path) -> np.ndarray:
        runtime = load_runtime(directory)
        assert isinstance(runtime, OnnxRuntime)
        return runtime.infer(rows)["logits"]

    expected = answers(tmp_path / "whole")
    assert (answers(tmp_path / "apart") == expected).all()
    # its own model is one that can be quantised
    assert quantized(tmp_path / "apart", tmp_path / "again", "precision=fp32") == 0
    assert (answers(tmp_path / "again") == expected).all()

    weights = tmp_path / "apart" / model.WEIGHTS
    content = weights.read_bytes()
    for damaged, message in ((content[:-1] + b"?", "has the sha256"), (content[:5], "has 5 bytes, not")):
        weights.write_bytes(damaged)
        with pytest.raises(model.DamagedModel, match=message):
            load_runtime(tmp_path / "apart")


def test_a_version_takes_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quantized(Path("models:/digits@champion"), tmp_path / "out") == 2
    assert "is not a URL of a server" in capsys.readouterr().err


def test_what_is_no_model_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"\0\1\2")
    for what, message in (
        (tmp_path / "bad.onnx", "the file is not an ONNX model: "),
        (tmp_path / "nothing", "the path does not exist\n  expected: a training's directory"),
        (tmp_path, "the path is not a model\n  expected: a training's directory"),
    ):
        assert quantized(what, tmp_path / "out") == 2
        assert message in capsys.readouterr().err


def test_an_output_without_a_result_for_each_row_is_refused(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 2]) for name in "xy"]
    node = helper.make_node("Transpose", ["x"], ["y"])
    graph = helper.make_graph([node], "turned", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "turned.onnx"))
    samples = Samples(inputs={"x": np.zeros((40, 2), np.float32)}, labels=None)
    with pytest.raises(UserError, match=r"the output y has the shape \[2, 32\] for 32 rows"):
        score.outputs(tmp_path / "turned.onnx", samples, 1)

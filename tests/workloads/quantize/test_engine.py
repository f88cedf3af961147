"""Engines, built by TensorRT for RTX for GPUs that are not there; none of them has run."""

import ctypes.util
import shutil
from pathlib import Path

import pytest

from tests.support import engine_stand_in
from tests.support.tensorrt import NOT_HERE, environment
from tests.workloads.quantize.test_quantize import quantized
from workloads.errors import UserError
from workloads.quantize import engine
from workloads.quantize.engine import BuilderSettings, build, main, trtexec_line
from workloads.serving import model as model_directory
from workloads.serving.runtimes import load_runtime
from workloads.serving.runtimes.tensorrt import check_engine

LIBRARY = "tensorrt_rtx_bindings"
TOLD = {"model": "0d1c", "library": "tensorrt", "version": "11.0.0", "architecture": "8.6", "max_batch": 32}
here = pytest.mark.skipif(bool(NOT_HERE), reason=NOT_HERE)
without_a_gpu = pytest.mark.skipif(bool(ctypes.util.find_library("cuda")), reason="there is a driver here")


@pytest.fixture(scope="module")
def published(training: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("engines")
    for target in ("t4", "cpu"):
        assert quantized(training, place / target, target=target) == 0
    return place


@here
def test_an_engine_is_called_by_all_that_it_was_built_of(published: Path, tmp_path: Path) -> None:
    source = model_directory.read(published / "t4")
    made = build(published / "t4", tmp_path / "out", 16, LIBRARY, "8.6", str(environment().python))

    model_directory.verify(tmp_path / "out", made)
    report = made.lineage["engine"]
    [(name, file)] = made.files.items()
    assert name == f"{source.version}-{LIBRARY}-{report['version']}-sm86-int8-1x16.engine"
    assert file.bytes > 100_000
    assert (made.runtime, made.inputs, made.lineage["gate"]) == ("tensorrt", source.inputs, source.lineage["gate"])
    assert (report["model"], report["architecture"], report["max_batch"]) == (source.version, "8.6", 16)


@here
def test_the_builder_takes_a_level_and_a_workspace(published: Path, tmp_path: Path) -> None:
    python, settings = str(environment().python), BuilderSettings(2 << 30, 1)
    engine = build(published / "t4", tmp_path / "out", 16, LIBRARY, "8.6", python, settings).lineage["engine"]
    assert (engine["builder_level"], engine["workspace_bytes"], "trtexec" in engine) == (1, 2 << 30, False)

    settings = BuilderSettings(timing_cache=tmp_path / "timings")
    with pytest.raises(UserError, match="tensorrt_rtx_bindings has no timing cache"):
        build(published / "t4", tmp_path / "other", 16, LIBRARY, "8.6", python, settings)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        capability = "8.6"

    monkeypatch.setenv("PYTHONPATH", str(engine_stand_in.DIRECTORY))
    monkeypatch.setattr(engine, "CudaGpu", Gpu)


def test_settings_of_the_builder_reach_it_and_stay_in_the_lineage(
    published: Path, tmp_path: Path, stand_in: None, capsys: pytest.CaptureFixture[str]
) -> None:
    cache, usual = tmp_path / "timings", (str(published / "t4"), "--max-batch", "16")
    assert main([*usual, "--out", str(tmp_path / "a"), "--timing-cache", str(cache)]) == 0
    given = ("--workspace", "4GiB", "--builder-level", "5", "--timing-cache", str(cache))
    assert main([*usual, "--out", str(tmp_path / "b"), *given]) == 0

    assert cache.read_text() == f"level 3, workspace {1 << 30}\nlevel 5, workspace {4 << 30}\n"
    made = model_directory.read(tmp_path / "b")
    report, [name] = made.lineage["engine"], made.files
    assert (report["builder_level"], report["workspace_bytes"]) == (5, 4 << 30)
    assert report["trtexec"] == (
        f"trtexec --onnx=model.onnx --saveEngine={name} --minShapes=x:1x8x8 --optShapes=x:16x8x8 "
        "--maxShapes=x:16x8x8 --memPoolSize=workspace:4096M --builderOptimizationLevel=5 --timingCacheFile=timings "
        "--skipInference"
    )
    assert f"the same by TensorRT's program: {report['trtexec']}" in capsys.readouterr().out

    for content in ("something else", "other GPU 1"):
        cache.write_text(content)
        assert main([*usual, "--out", str(tmp_path / "c"), "--timing-cache", str(cache)]) == 4
        assert "timings is no timing cache of this GPU and of tensorrt 0.0; remove it" in capsys.readouterr().err
        assert cache.read_text() == content and not (tmp_path / "c").exists()


def test_a_line_for_trtexec_has_every_input_and_is_quoted() -> None:
    shapes = {"a b": [(1, 3), (8, 3), (8, 3)], "c": [(1,), (8,), (8,)]}
    line = trtexec_line("model.onnx", "e", shapes, BuilderSettings())
    assert "'--optShapes=a b:8x3,c:8'" in line and "timingCache" not in line


@pytest.mark.parametrize(("size", "problem"), [("much", "is not a size"), ("1.5MiB", "is not a multiple of 1MiB")])
def test_a_workspace_is_a_size_of_whole_mebibytes(
    size: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--out", str(tmp_path / "out"), "--workspace", size])
    assert problem in capsys.readouterr().err


@here
@pytest.mark.parametrize(
    ("target", "architecture", "expected"),
    [
        ("cpu", "8.6", "Plugin not found"),
        ("t4", "7.5", "FP32 GEMM is not supported"),
        ("t4", "9.0", "has no SM90"),
    ],
)
def test_what_it_does_not_build_is_reported_in_its_words(
    published: Path, tmp_path: Path, target: str, architecture: str, expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        build(published / target, tmp_path / "out", 16, LIBRARY, architecture, str(environment().python))
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_it_says_so(published: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No module named 'no_such_tensorrt'") as failed:
        build(published / "t4", tmp_path / "out", 16, "no_such_tensorrt", "8.6")
    assert failed.value.exit_status == 4


def test_an_earlier_model_is_replaced_on_request_alone(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(published / "cpu", out)
    assert main([str(tmp_path / "none"), "--out", str(out)]) == 2
    assert f"{out}: it has the model digits, version " in capsys.readouterr().err
    assert main([str(tmp_path / "none"), "--out", str(out), "--replace"]) == 2
    assert f"{tmp_path}/none/model.json: the file cannot be read" in capsys.readouterr().err


@without_a_gpu
def test_without_a_gpu_nothing_is_built_or_served(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(published / "t4"), "--out", str(tmp_path / "out")]) == 2
    assert "the engine has no GPU: libcuda.so.1: cannot open" in capsys.readouterr().err
    found = model_directory.read(published / "t4")
    files = {"x.engine": published / "t4" / "model.onnx"}
    model_directory.publish(tmp_path / "engine", files, "digits", found.inputs, found.outputs, {}, runtime="tensorrt")
    with pytest.raises(UserError, match="an NVIDIA GPU with its driver"):
        load_runtime(tmp_path / "engine")


def test_an_engine_from_elsewhere_is_refused_with_both_sides() -> None:
    check_engine(TOLD, "tensorrt", "11.0.0", "8.6", 32)
    with pytest.raises(UserError) as refused:
        check_engine(TOLD, "tensorrt", "11.1.0", "8.9", 64)
    for text in ("version 11.0.0, here it is 11.1.0", "architecture 8.6, here it is 8.9", "32, the server's is 64"):
        assert text in str(refused.value)
    assert "library" not in str(refused.value)

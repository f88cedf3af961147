"""A published model is complete or absent, and damage and errors are reported before anything is served."""

import ctypes
import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.diagnostics import sentences
from tests.support.training_runs import ROOT, environment
from workloads.errors import UserError
from workloads.serving import model
from workloads.serving.__main__ import main
from workloads.serving.model import DamagedModel, Tensor
from workloads.serving.runtimes import load_runtime

X = (Tensor(name="x", datatype="FP32", shape=(-1, 2)),)


def published(directory: Path, content: bytes = b"weights", replace: bool = False) -> model.Model:
    source = directory.parent / "source"
    source.write_bytes(content)
    report = {"report.md": b"good"}
    return model.publish(directory, {"model.onnx": source}, "m", X, X, {"of": 1}, report, replace=replace)


def test_what_is_published_is_read_again(tmp_path: Path) -> None:
    written = published(tmp_path / "m")
    found = model.read(tmp_path / "m")
    model.verify(tmp_path / "m", found)

    assert found == written
    assert found.batches
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["model.json", "model.onnx", "report.md"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_version_is_that_of_the_content(tmp_path: Path) -> None:
    one, same, other = (published(tmp_path / name, name[:1].encode()) for name in ("a1", "a2", "b1"))
    assert one.version == same.version != other.version


def test_a_model_takes_the_place_of_a_model_and_of_nothing_else(tmp_path: Path) -> None:
    old = published(tmp_path / "m", b"old")
    with pytest.raises(UserError, match=f"it has the model m, version {old.version}"):
        published(tmp_path / "m", b"new")
    assert model.read(tmp_path / "m") == old
    new = published(tmp_path / "m", b"new", replace=True)
    assert model.read(tmp_path / "m") == new
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="it exists, and is not a published model"):
        published(tmp_path / "mine", replace=True)


def test_a_model_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    published(tmp_path / "m")
    (tmp_path / "m" / "model.json").write_text("{")
    with pytest.raises(UserError, match=r"it has a published model, whose model\.json cannot be read"):
        published(tmp_path / "m")
    assert published(tmp_path / "m", replace=True) == model.read(tmp_path / "m")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.write_bytes(b"weightz"), "model.onnx has the sha256 "),
        (lambda path: path.write_bytes(b"weight"), "model.onnx has 6 bytes, not 7"),
        (lambda path: path.unlink(), "model.onnx cannot be read (No such file or directory)"),
    ],
)
def test_damage_is_found_before_it_is_served(tmp_path: Path, damage: object, expected: str, capsys: object) -> None:
    published(tmp_path / "m")
    damage(tmp_path / "m" / "model.onnx")  # type: ignore[operator]
    with pytest.raises(DamagedModel) as damaged:
        load_runtime(tmp_path / "m")
    assert expected in str(damaged.value)
    assert main([str(tmp_path / "m"), "--set", "port=0"]) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": "other"}, "format: Input should be 'rackwright model 1'"),
        ({"runtime": "pickle"}, "runtime: Input should be 'onnx', 'torch', 'llama.cpp', 'tensorrt' or 'vllm'"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
    ],
)
def test_a_description_that_is_none_is_reported(tmp_path: Path, change: dict[str, object], expected: str) -> None:
    published(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError) as wrong:
        model.read(tmp_path / "m")
    assert expected in str(wrong.value)


def test_a_file_that_no_runtime_loads_is_reported(tmp_path: Path) -> None:
    published(tmp_path / "m")
    with pytest.raises(UserError, match="ONNX Runtime .* cannot load the model"):
        load_runtime(tmp_path / "m")


def test_nothing_at_all_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--set", "port=0"]) == 2
    report = f"{tmp_path}/model.json: the file cannot be read: No such file or directory; the model.json of a published"
    assert sentences(capsys.readouterr().err).startswith(report)


SIZE = 64 << 20
"""More than a drive takes at once."""


def test_the_files_are_read_ahead(tmp_path: Path) -> None:
    """The page cache has a file that no process has read; the kernel may skip some pages on a busy computer."""
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(SIZE))
    found = model.Model(
        name="numbers", version="0" * 12, runtime="onnx",
        files={name: model.ModelFile(bytes=SIZE, sha256="0" * 64) for name in (path.name, "not-there.bin")},
    )  # fmt: skip
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if _cached(file.fileno(), SIZE) > 0:
            pytest.skip("this filesystem keeps its files in memory")
        model.fetch_ahead(tmp_path, found)
        deadline = time.monotonic() + 60
        while _cached(file.fileno(), SIZE) < 0.9:
            assert time.monotonic() < deadline, "it is not read ahead"
            time.sleep(0.01)


def _cached(handle: int, size: int) -> float:
    """Return the part of the file's pages that is in the page cache; asking reads none. Source: mincore(2)."""
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    with mmap.mmap(handle, size, access=mmap.ACCESS_COPY) as mapped:
        first = ctypes.c_char.from_buffer(mapped)
        assert ctypes.CDLL(None).mincore(ctypes.byref(first), ctypes.c_size_t(size), pages) == 0
        del first
    return sum(page & 1 for page in pages) / len(pages)


def test_a_library_that_reports_to_its_maker_is_kept_from_it(digits: Path, tmp_path: Path) -> None:
    """
    ONNX Runtime writes its own identity into the home before it reports anything.
    """
    load = (
        "from pathlib import Path; from workloads.serving.runtimes import load_runtime;"
        f"load_runtime(Path({str(digits)!r}))"
    )
    argv = [sys.executable, "-c", load]
    variables = environment(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    variables.pop("ORT_DISABLE_TELEMETRY", None)  # this process has it from the package, too
    done = subprocess.run(argv, cwd=ROOT, env=variables, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.rglob("*")) == []

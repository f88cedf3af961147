"""A model is put where servers take it from whole, proved and good enough, or not at all."""

import json
from pathlib import Path

import pytest

from workloads.common.errors import WorkloadError
from workloads.serving import place as placing
from workloads.serving.model import DamagedModel, Tensor, publish
from workloads.serving.place import main, place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "weights").write_bytes(b"weights")
    tensor = Tensor(name="x", datatype="FP32", shape=(-1, 2))
    lineage = {"gate": {"found": {"accuracy_kept": 0.99}}}
    publish(tmp_path / "source", {"model.onnx": tmp_path / "weights"}, "digits", (tensor,), (tensor,), lineage)
    return tmp_path / "source"


@pytest.fixture
def version(source: Path) -> str:
    return str(json.loads((source / "model.json").read_text())["version"])


def names(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir()) if models.is_dir() else []


def test_a_copy_stands_under_its_version(source: Path, version: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    model = place(models, version, source, 0.98)

    assert names(models) == [model.version] == [version]
    assert (models / version / "model.onnx").read_bytes() == b"weights"


def test_what_was_sent_is_proved_where_it_lies(source: Path, version: str, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    source.rename(models / f".{version}.partial")

    place(models, version, None, None)

    assert names(models) == [version]


def test_a_damaged_file_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    (source / "model.onnx").write_bytes(b"weightz")

    with pytest.raises(DamagedModel, match=r"model\.onnx has the sha256"):
        place(tmp_path / "models", version, source, None)
    assert version not in names(tmp_path / "models")


def test_another_version_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=f"got version {version}; ba9876543210 is to be served"):
        place(tmp_path / "models", "ba9876543210", source, None)
    assert "ba9876543210" not in names(tmp_path / "models")


def test_a_version_that_is_only_claimed_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    """
    The version follows from the files, whatever model.json says of itself.
    """
    told = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps({**told, "version": "ba9876543210"}))

    with pytest.raises(WorkloadError, match=f"got version {version}"):
        place(tmp_path / "models", "ba9876543210", source, None)


def test_one_that_lost_too_much_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="got 99.0000% of its accuracy kept; 99.50% are asked for"):
        place(tmp_path / "models", version, source, 0.995)
    assert version not in names(tmp_path / "models")


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", ".."])
def test_no_name_leads_out_of_the_directory(source: Path, version: str, tmp_path: Path, name: str) -> None:
    """
    Root copies by the names that a model.json on a tier says.
    """
    told = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps({**told, "files": {name: told["files"]["model.onnx"]}}))

    with pytest.raises(WorkloadError, match="a model's files lie beside its model.json"):
        place(tmp_path / "models", version, source, None)


def test_a_link_is_not_followed(source: Path, version: str, tmp_path: Path) -> None:
    (source / "model.onnx").unlink()
    (source / "model.onnx").symlink_to(tmp_path / "weights")

    with pytest.raises(WorkloadError, match="a model's files lie beside its model.json"):
        place(tmp_path / "models", version, source, None)


def test_a_drive_that_is_full_is_said_and_leaves_nothing_under_the_version(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device", "/models/model.onnx")

    monkeypatch.setattr(placing.disk, "copy", full)

    assert main([str(tmp_path / "models"), version, "--copy", str(source)]) == 1
    assert "got No space left on device" in capsys.readouterr().err
    assert version not in names(tmp_path / "models")

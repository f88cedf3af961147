"""A model is put where servers take it from whole, proved and good enough, or not at all."""

import json
import os
import signal
import stat
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import UserError
from workloads.serving import place as placing
from workloads.serving.model import DamagedModel, Tensor, publish
from workloads.serving.place import main, place

OTHER_GROUP = 65534 if os.geteuid() == 0 else os.getegid()


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


@pytest.mark.parametrize("old", ["link", "dangling link", "file", "directory"])
def test_a_copy_takes_the_place_of_anything_else(source: Path, version: str, tmp_path: Path, old: str) -> None:
    models, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models.mkdir()
    (models / f".{version}.replaced").symlink_to(elsewhere)
    if old == "file":
        (models / version).touch()
    elif old == "directory":
        (models / version).mkdir()
    else:
        (models / version).symlink_to(elsewhere)
    if old != "dangling link":
        elsewhere.mkdir()
        (elsewhere / "kept").touch()

    place(models, version, source, None)

    assert names(models) == [version]
    assert (models / version).is_dir() and not (models / version).is_symlink()
    assert names(elsewhere) == ([] if old == "dangling link" else ["kept"])


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
    assert names(tmp_path / "models") == []


def test_another_version_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"the model has version {version}; ba9876543210, which the fleet declares"):
        place(tmp_path / "models", "ba9876543210", source, None)
    assert names(tmp_path / "models") == []


def test_a_version_that_is_only_claimed_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    """
    The version follows from the files, whatever model.json says of itself.
    """
    report = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps({**report, "version": "ba9876543210"}))

    with pytest.raises(UserError, match=f"the model has version {version}"):
        place(tmp_path / "models", "ba9876543210", source, None)


def test_one_that_lost_too_much_is_put_nowhere(source: Path, version: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the model kept 99.0000% of its accuracy; at least 99.50%"):
        place(tmp_path / "models", version, source, 0.995)
    assert names(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", ".."])
def test_no_name_leads_out_of_the_directory(source: Path, version: str, tmp_path: Path, name: str) -> None:
    """
    Root copies by the names that a model.json on a tier says.
    """
    report = json.loads((source / "model.json").read_text())
    (source / "model.json").write_text(json.dumps({**report, "files": {name: report["files"]["model.onnx"]}}))

    with pytest.raises(UserError, match="names no file beside model.json"):
        place(tmp_path / "models", version, source, None)


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_link_is_not_followed(source: Path, version: str, tmp_path: Path, name: str) -> None:
    (source / name).rename(tmp_path / "elsewhere")
    (source / name).symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UserError, match=f"'{name}' cannot be read: Too many levels of symbolic links"):
        place(tmp_path / "models", version, source, None)
    assert names(tmp_path / "models") == []


def test_a_link_in_the_place_of_the_directory_is_not_followed(source: Path, version: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)

    assert main([str(tmp_path / "models"), version, "--copy", str(tmp_path / "link")]) == 1
    assert names(tmp_path / "models") == []


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_fifo_is_refused_without_a_wait_for_its_writer(source: Path, version: str, tmp_path: Path, name: str) -> None:
    (source / name).unlink()
    os.mkfifo(source / name)

    with pytest.raises(UserError, match=f"'{name}' is not a regular file"):
        place(tmp_path / "models", version, source, None)
    assert names(tmp_path / "models") == []


def test_a_file_that_becomes_a_link_while_another_is_copied_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The owner of the directory waits until the first file is being copied. Nothing of the secret is ever written.
    """
    for name in ("a.bin", "b.json"):
        (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "secret").write_bytes(b"root's secret")
    files = {name: tmp_path / name for name in ("a.bin", "b.json")}
    model = publish(tmp_path / "source", files, "m", (), (), {})
    copy = placing._copy_bytes

    def swapped(source: Any, target: Path, size: int) -> None:
        copy(source, target, size)
        if target.name == "a.bin":
            (tmp_path / "source" / "b.json").unlink()
            (tmp_path / "source" / "b.json").symlink_to(tmp_path / "secret")
        assert b"secret" not in target.read_bytes()

    monkeypatch.setattr(placing, "_copy_bytes", swapped)

    with pytest.raises(UserError, match="'b.json' cannot be read"):
        place(tmp_path / "models", model.version, tmp_path / "source", None)
    assert names(tmp_path / "models") == []


def test_a_file_that_grows_while_it_is_copied_is_copied_up_to_its_size(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = placing._copy_bytes

    def grown(file: Any, target: Path, size: int) -> None:
        with (source / "model.onnx").open("ab") as content:
            content.write(b"more")
        copy(file, target, size)

    monkeypatch.setattr(placing, "_copy_bytes", grown)
    place(tmp_path / "models", version, source, None)

    assert (tmp_path / "models" / version / "model.onnx").read_bytes() == b"weights"


def test_a_size_that_is_not_the_declared_one_is_refused_before_anything_is_copied(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "model.onnx").write_bytes(b"longer weights")
    monkeypatch.setattr(placing, "_copy_bytes", None)

    with pytest.raises(DamagedModel, match=r"model\.onnx has 14 bytes; 7 bytes, as published"):
        place(tmp_path / "models", version, source, None)


def test_a_model_that_does_not_fit_is_refused_before_anything_is_copied(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The sizes of files are no part of a version, and a sparse file has any size.
    """
    report = json.loads((source / "model.json").read_text())
    report["files"]["model.onnx"]["bytes"] = 1 << 60
    (source / "model.json").write_text(json.dumps(report))
    monkeypatch.setattr(placing, "_copy_bytes", None)

    with pytest.raises(UserError, match="GB are free for a model of 1152921504.6 GB"):
        place(tmp_path / "models", version, source, None)
    assert names(tmp_path / "models") == []


def test_a_model_json_has_an_end(source: Path, version: str, tmp_path: Path) -> None:
    with (source / "model.json").open("ab") as file:
        file.truncate(1 << 40)

    with pytest.raises(UserError, match="too large for a model.json; at most 4194304 bytes"):
        place(tmp_path / "models", version, source, None)


def test_the_model_json_that_was_judged_is_the_one_that_is_placed(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, content = placing._copy_bytes, (source / "model.json").read_bytes()

    def replaced(file: Any, target: Path, size: int) -> None:
        copy(file, target, size)
        (source / "model.json").write_text("another")

    monkeypatch.setattr(placing, "_copy_bytes", replaced)
    place(tmp_path / "models", version, source, None)

    assert (tmp_path / "models" / version / "model.json").read_bytes() == content


def test_while_it_is_copied_it_is_its_copier_s_alone_and_then_its_group_s_too(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    copy = placing._copy_bytes

    def noted(file: Any, target: Path, size: int) -> None:
        modes.append(stat.S_IMODE(target.parent.stat().st_mode))
        copy(file, target, size)

    monkeypatch.setattr(placing, "_copy_bytes", noted)
    (tmp_path / "models").mkdir()
    os.chown(tmp_path / "models", -1, OTHER_GROUP)
    place(tmp_path / "models", version, source, None)
    placed = tmp_path / "models" / version

    assert modes == [0o700]
    for path, mode in ((placed, 0o750), (placed / "model.onnx", 0o640), (placed / "model.json", 0o640)):
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (mode, OTHER_GROUP)


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "too slow"])
def test_a_copy_that_is_stopped_or_too_slow_leaves_nothing(
    source: Path, version: str, tmp_path: Path, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(*arguments: object) -> None:
        if stopped:
            os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    monkeypatch.setattr(placing, "_copy_bytes", waits)

    with pytest.raises(SystemExit if stopped else UserError):
        place(tmp_path / "models", version, source, None, seconds=60 if stopped else 0.01)
    assert names(tmp_path / "models") == []


def test_a_drive_that_is_full_is_reported_and_leaves_nothing_under_the_version(
    source: Path, version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device", "/models/model.onnx")

    monkeypatch.setattr(placing, "_copy_bytes", full)

    assert main([str(tmp_path / "models"), version, "--copy", str(source)]) == 1
    assert "the model cannot be copied: No space left on device" in capsys.readouterr().err
    assert names(tmp_path / "models") == []

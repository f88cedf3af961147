"""Files of a published model: regular files in its directory, and nothing that leads elsewhere or never ends."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workloads.errors import UserError
from workloads.serving import model as model_directory
from workloads.serving.model import NAME, DamagedModel

DIGEST = "0" * 64


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model with one file of three bytes."""
    place = tmp_path / "digits"
    place.mkdir()
    write_metadata(place, "model.onnx")
    (place / "model.onnx").write_bytes(b"abc")
    return place


def write_metadata(place: Path, file: str) -> None:
    files = {file: {"bytes": 3, "sha256": DIGEST}}
    metadata = {"name": "digits", "version": "1", "runtime": "onnx", "files": files}
    (place / NAME).write_text(json.dumps(metadata))


def test_regular_files_are_accepted(directory: Path) -> None:
    model_directory.check_files(directory, model_directory.read(directory))


OTHERS: dict[str, Callable[[Path], None]] = {
    "a link out of the directory": lambda path: path.symlink_to("/etc/hostname"),
    "a link to a file beside it": lambda path: path.symlink_to(NAME),
    "a link to a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("missing"),
    "a FIFO without a writer": os.mkfifo,
    "a directory": lambda path: path.mkdir(),
    "a file of another size": lambda path: path.write_bytes(b"abcd") and None,
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_file_of_the_model_is_refused(directory: Path, what: str) -> None:
    (directory / "model.onnx").unlink()
    OTHERS[what](directory / "model.onnx")

    with pytest.raises(DamagedModel, match="model.onnx"):
        model_directory.check_files(directory, model_directory.read(directory))


@pytest.mark.parametrize("what", [each for each in OTHERS if "size" not in each])
def test_metadata_that_is_no_file_is_refused(directory: Path, what: str) -> None:
    (directory / NAME).unlink()
    OTHERS[what](directory / NAME)

    with pytest.raises(UserError, match=NAME):
        model_directory.read(directory)


@pytest.mark.parametrize("name", ["../x", "/etc/cron.d/x", "a/b", "..", ".", "", NAME, "a\nb", "a\x00b", "a\u202eb"])
def test_no_name_in_the_metadata_leads_elsewhere(directory: Path, name: str) -> None:
    """
    Root writes files by these names on the hosts.
    """
    write_metadata(directory, name)

    with pytest.raises(UserError, match="names no file beside model.json"):
        model_directory.read(directory)

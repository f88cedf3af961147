"""Files of a published model: regular files in its directory, and nothing that leads elsewhere or never ends."""

from pathlib import Path

import pytest

from tests.support.model_files import OTHERS, write_metadata
from workloads.errors import UserError
from workloads.serving import model as model_directory
from workloads.serving.model import NAME, DamagedModel


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model with one file of three bytes."""
    place = tmp_path / "digits"
    place.mkdir()
    write_metadata(place, "model.onnx")
    (place / "model.onnx").write_bytes(b"abc")
    return place


def test_regular_files_are_accepted(directory: Path) -> None:
    model_directory.check_files(directory, model_directory.read(directory))


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

"""What is taken of a version before a byte of it is believed; with a real server, test_mlflow.py."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support import sample_checkpoints
from workloads.errors import UserError
from workloads.tracking.registry import REFERENCE, fetch, fetch_manifest, find, register
from workloads.tracking.server import TrackingRefused, TrackingServer

SOURCE = "mlflow-artifacts:/1/r/artifacts/step-0000000003"


class Shelf(TrackingServer):
    """A registry with one version, whose files lie in a directory."""

    def __init__(self, directory: Path, digest: str, source: str = SOURCE) -> None:
        self.url, self.asked = "https://registry.example", list[str]()
        self._directory = directory
        tags = [{"key": "rackwright.checkpoint", "value": digest}]
        self._version = {"name": "a", "version": "1", "source": source, "tags": tags}

    def get(self, what: str, **query: str) -> dict[str, Any]:
        return {"model_version": self._version}

    def get_file(self, place: str, target: Path, most: int) -> None:
        self.asked.append(place.rpartition("/")[2])
        shutil.copy(self._directory / self.asked[-1], target)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    sample_checkpoints.make(tmp_path / "checkpoints", 3)
    return sample_checkpoints.files(tmp_path / "checkpoints", 3)


def digest_of(files: list[Path]) -> str:
    [described] = [file for file in files if file.name == "manifest.json"]
    return sha256(described.read_bytes()).hexdigest()


def test_a_version_is_brought_once_and_is_a_checkpoint_as_it_was(files, tmp_path):
    shelf = Shelf(files[0].parent, digest_of(files))
    back = fetch(shelf, "a/1", tmp_path / "back")
    assert {path.name: path.read_bytes() for path in back.iterdir()} == {path.name: path.read_bytes() for path in files}

    assert fetch(shelf, "a/1", tmp_path / "back") == back
    assert sorted(shelf.asked) == sorted(path.name for path in files)


def test_a_file_that_was_changed_is_not_taken(files, tmp_path):
    digest = digest_of(files)
    sample_checkpoints.flip(files[-1], 3)

    with pytest.raises(UserError, match="has the sha256"):
        fetch(Shelf(files[0].parent, digest), "a/1", tmp_path / "back")


class Counter(TrackingServer):
    """Takes whatever it is given, and says which version that is."""

    def __init__(self) -> None:
        self.url, self.put, self.posted = "https://registry.example", list[str](), dict[str, Any]()

    def get(self, what: str, **query: str) -> dict[str, Any]:
        return {}

    def post(self, what: str, **body: Any) -> dict[str, Any]:
        self.posted[what] = body
        return {
            "model_version": {
                "name": "a",
                "version": "1",
                "source": body.get("source", ""),
                "tags": body.get("tags", []),
            }
        }

    def put_file(self, place: str, file: Path) -> None:
        self.put.append(place)


def run(out: Path, **lineage: Any) -> Path:
    sample_checkpoints.make(out / "checkpoints", 3, 5)
    (out / "tracking.json").write_text(json.dumps({"url": "https://registry.example", "run": "r", "experiment": "1"}))
    (out / "lineage.json").write_text(json.dumps({"parent": None, "data": [{"sha256": "d"}], **lineage}))
    return out


def test_the_checkpoint_that_came_of_a_run_is_registered_not_the_last_one(tmp_path):
    best = digest_of(sample_checkpoints.files(run(tmp_path) / "checkpoints", 3))
    server, out = Counter(), run(tmp_path / "again", published=True, checkpoint=best)

    assert register(server, out, "a").tags["step"] == "3"
    assert {place.split("/")[3] for place in server.put} == {"step-0000000003"}
    assert register(Counter(), run(tmp_path / "newest"), "a").tags["step"] == "5"


def test_what_is_not_published_is_not_registered(tmp_path):
    server = Counter()
    with pytest.raises(TrackingRefused, match="worse than its parent"):
        register(server, run(tmp_path, published=False), "a")

    assert (server.put, server.posted) == ([], {})


@pytest.mark.parametrize(
    ("digest", "source"),
    [
        ("../../../../etc/x", SOURCE),
        ("", SOURCE),
        ("a" * 64, "mlflow-artifacts:/1/r/artifacts/.."),
        ("a" * 64, "s3://b"),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_refused_before_anything_is_written(digest, source, tmp_path):
    with pytest.raises(TrackingRefused, match="is (neither a checkpoint nor a model|not a checkpoint)"):
        fetch(Shelf(tmp_path, digest, source), "a/1", tmp_path / "back")

    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("digits", ("digits", None, None)),
        ("models:/digits@champion", ("digits", "champion", None)),
        ("my model/12", ("my model", None, "12")),
    ],
)
def test_a_version_is_named_as_mlflow_names_it(text, parts):
    found = REFERENCE.fullmatch(text)

    assert found and (found["name"], found["alias"], found["version"]) == parts


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "a\nb"])
def test_the_server_chooses_no_directory_outside_the_versions_own(tmp_path, name):
    shelf = Shelf(tmp_path, "0" * 64, f"mlflow-artifacts:/1/r/artifacts/{name}")
    with pytest.raises(TrackingRefused, match="is neither a checkpoint nor a model of rackwright"):
        fetch_manifest(shelf, find(shelf, "a/1"), "model.json", tmp_path / "into")

    assert not (tmp_path / "into").exists()

"""Restore tests: every file of an archive is restored and loaded, and the bucket keeps the result."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from rackwright.endpoints import restore_result, s3_facts
from rackwright.schema.object_store import RESTORE_TEST
from rackwright.tiering import archive, canary, restore_test
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.canary import Canary, NoOutputs
from rackwright.tiering.directory import LocalDirectory
from tests.support.object_store import SIGNING_KEY

NOW = 0.0
"""The time of the present test, in whole seconds: a result is compared with the time at which it is uploaded."""


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "NOW", float(int(time.time())))


def safetensors(size: int = 8) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("w.npy", b"weights" * 100)
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as file:
        file.addfile(tarfile.TarInfo("w"), io.BytesIO())
    return content.getvalue()


WHOLE = {
    "model.safetensors": safetensors(),
    "w.npz": zipped(),
    "step.tar": tarred(),
    "model.json": b"{}",
    "notes": b"any",
}
DAMAGED = {
    "model.safetensors": safetensors(7),
    "w.npz": zipped().replace(b"weights", b"weighty", 1),
    "step.tar": b"no archive",
    "model.json": b"{",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_file_is_loaded(tmp_path, name):
    (tmp_path / name).write_bytes(WHOLE[name])

    assert restore_test.load_problem(tmp_path, name) == ""


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])

    assert restore_test.load_problem(tmp_path, name).startswith(f"{name} cannot be loaded: ")


def archived(bucket: Bucket, directory: Path, files: dict[str, bytes]) -> None:
    directory.mkdir()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    source = LocalDirectory(directory)
    archive.move(bucket, archive.plan(bucket, "model-1", source), source, False, None, lambda text: None)


def outcome(bucket: Bucket, scratch: Path, *computed: Canary | NoOutputs) -> restore_test.TestResult:
    """Return the result of a test; the model of the archive has the outputs *computed*, or no runtime compares any."""
    infer = (lambda directory: computed[0]) if computed else None
    return restore_test.run(bucket, "model-1", scratch, lambda: NOW, lambda text: None, infer)


def computed(*values: float, name: str = "scores") -> Canary:
    return Canary(runtime="ONNX Runtime", outputs={name: values})


def facts(bucket: Bucket, server) -> object:
    """Return the result as a reading of the store reports it."""
    raw = s3_facts.read(server.client(), server.client(None), SIGNING_KEY)
    return raw["s3"]["buckets"][bucket.name]["restore_test"]


def test_a_passed_test_is_noted_in_the_bucket(bucket, server, tmp_path):
    assert facts(bucket, server) is None
    archived(bucket, tmp_path / "model", WHOLE)

    result = outcome(bucket, tmp_path / "scratch")

    assert (result.passed, result.files, result.problem) == (True, len(WHOLE), "")
    assert facts(bucket, server) == {"at": NOW, "passed": True}
    assert archive.list_archives(bucket) == ("model-1",)


def test_an_archive_that_cannot_be_loaded_fails(bucket, server, tmp_path):
    archived(bucket, tmp_path / "model", {**WHOLE, "model.json": b"{"})

    result = outcome(bucket, tmp_path / "scratch")

    assert result.problem.startswith("model.json cannot be loaded: ")
    assert facts(bucket, server) == {"at": NOW, "passed": False}


def test_a_damaged_archive_fails(bucket, server, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    bucket.client.put_object(Bucket=bucket.name, Key="model-1/files/notes", Body=b"ANY")

    result = outcome(bucket, tmp_path / "scratch")

    assert "notes: 3 bytes with another content" in result.problem
    assert facts(bucket, server) == {"at": NOW, "passed": False}


def test_another_object_in_the_place_of_the_result_is_unknown(bucket, server):
    bucket.client.put_object(Bucket=bucket.name, Key=RESTORE_TEST, Body=b"[]")

    reason = "the data is a JSON list, and an object is expected"
    assert facts(bucket, server) == {"unknown": f"{RESTORE_TEST} is no result of a test: {reason}"}


def test_the_first_test_records_the_outputs_of_a_model_and_the_next_compares(bucket, server, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)

    assert outcome(bucket, tmp_path / "1", computed(0.5, -2.0)).canary == "recorded"
    assert outcome(bucket, tmp_path / "2", computed(0.51, -2.0)).canary == "same"
    result = outcome(bucket, tmp_path / "3", computed(0.5, -1.9))

    assert (result.passed, result.canary) == (False, "different")
    assert result.problem.startswith("value 1 of the output scores is -1.9, and -2 in the canary; ")
    assert facts(bucket, server) == {"at": NOW, "passed": False}


def test_a_model_that_has_no_outputs_any_more_fails(bucket, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    here, elsewhere = NoOutputs("no such runtime"), NoOutputs("nothing is installed", is_loadable=True)

    assert outcome(bucket, tmp_path / "1", here).passed
    assert outcome(bucket, tmp_path / "2", computed(1)).canary == "recorded"
    assert outcome(bucket, tmp_path / "3", elsewhere).passed
    result = outcome(bucket, tmp_path / "4", here)

    assert (result.passed, result.problem) == (False, "the model has no outputs any more: no such runtime")


def test_an_archive_without_a_model_has_no_canary(bucket, tmp_path):
    archived(bucket, tmp_path / "model", {"notes": b"any"})

    assert outcome(bucket, tmp_path / "scratch", computed(1)).canary == ""


def test_an_object_that_is_no_canary_fails(bucket, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    bucket.client.put_object(Bucket=bucket.name, Key=canary.key("model-1"), Body=b"[]")

    assert "the object is no canary" in outcome(bucket, tmp_path / "scratch", computed(1)).problem


def test_a_deleted_canary_is_not_recorded_again(bucket, server, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    outcome(bucket, tmp_path / "1", computed(1))
    bucket.client.delete_object(Bucket=bucket.name, Key=canary.key("model-1"))

    result = outcome(bucket, tmp_path / "2", computed(2))

    assert "the recorded outputs of the model were deleted" in result.problem
    assert bucket.body(canary.key("model-1")) is None
    assert facts(bucket, server) == {"at": NOW, "passed": False}


def test_a_changed_canary_fails(bucket, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    outcome(bucket, tmp_path / "1", computed(1))
    bucket.client.put_object(
        Bucket=bucket.name, Key=canary.key("model-1"), Body=computed(2).model_dump_json(indent=1).encode()
    )

    assert "the recorded outputs of the model were changed" in outcome(bucket, tmp_path / "2", computed(2)).problem


def test_a_canary_of_an_interrupted_test_is_noted_by_the_next(bucket, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    as_moved = archive.load_manifest(bucket, "model-1")
    outcome(bucket, tmp_path / "1", computed(1))
    noted = archive.load_manifest(bucket, "model-1")
    bucket.client.put_object(Bucket=bucket.name, Key=bucket.manifest_key("model-1"), Body=as_moved.render())

    assert outcome(bucket, tmp_path / "2", computed(1)).canary == "same"
    assert archive.load_manifest(bucket, "model-1") == noted != as_moved


def test_a_tested_archive_can_be_moved_again(bucket, tmp_path):
    archived(bucket, tmp_path / "model", WHOLE)
    outcome(bucket, tmp_path / "1", computed(1))
    noted = archive.load_manifest(bucket, "model-1")

    archived(bucket, tmp_path / "model", WHOLE)

    assert archive.load_manifest(bucket, "model-1") == noted


@pytest.mark.parametrize(
    ("actual", "problem"),
    [
        (computed(1.0, 2.0), ""),
        (computed(1.0), "the output scores has 1 values, and the canary 2"),
        (computed(1.0, 2.0, name="y"), "the model has the outputs y, and the canary scores"),
        (computed(1.0, float("nan")), "value 1 of the output scores is nan, and 2 in the canary"),
    ],
)
def test_outputs_are_compared(actual, problem):
    assert canary.difference(computed(1.0, 2.0), actual) == problem


def test_outputs_that_are_no_numbers_are_the_same():
    nothing = computed(float("nan"), float("inf"))

    assert canary.difference(nothing, nothing) == ""


def changed(offset: int, value: bytes) -> bytes:
    """Return a zip file with another byte in the entry of its directory."""
    content = zipped()
    place = content.rindex(b"PK\x01\x02") + offset
    return content[:place] + value + content[place + 1 :]


HOSTILE = {
    "deep.json": b"[" * 100_000,
    "deep.safetensors": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "list.safetensors": struct.pack("<Q", 2) + b"[]",
    "null.safetensors": struct.pack("<Q", 4) + b"null",
    "short.safetensors": struct.pack("<Q", 28) + b'{"a": {"data_offsets": [1]}}',
    "packed.tar": gzip.compress(tarred()),
    "cut.tar": gzip.compress(tarred())[:-4],
    "encrypted.zip": changed(8, b"\x01"),
    "method.npz": changed(10, b"\x63"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_failed_test(tmp_path, name):
    (tmp_path / name).write_bytes(HOSTILE[name])

    problem = restore_test.load_problem(tmp_path, name)
    assert problem.startswith(f"{name} cannot be loaded: ") and len(problem) < 400 and problem.isprintable()


def test_a_failed_load_is_noted_over_an_earlier_passed_test(bucket, server, tmp_path):
    archived(bucket, tmp_path / "model", {"a.json": HOSTILE["deep.json"]})

    assert not outcome(bucket, tmp_path / "scratch").passed
    assert facts(bucket, server) == {"at": NOW, "passed": False}


def test_a_forged_result_is_unknown(bucket, server):
    for content in (
        {"at": NOW, "passed": True},
        {"at": NOW, "passed": True, "bucket": bucket.name, "signature": "0" * 64},
    ):
        bucket.client.put_object(Bucket=bucket.name, Key=RESTORE_TEST, Body=json.dumps(content).encode())

        assert facts(bucket, server).keys() == {"unknown"}


def test_an_earlier_result_in_the_place_of_a_later_one_is_unknown(bucket, server):
    earlier = restore_result.render(SIGNING_KEY, bucket.name, {"at": NOW - 86400, "passed": True})
    bucket.client.put_object(Bucket=bucket.name, Key=RESTORE_TEST, Body=earlier)

    assert "a copy of an earlier one" in facts(bucket, server)["unknown"]


def test_a_manifest_whose_files_cannot_be_in_one_directory_is_damaged(bucket, tmp_path):
    """
    Its restore would end without a result, and leave that of an earlier test.
    """
    digest = "0" * 64
    for paths in (["a", "a/b"], ["a", "a"], ["a" * 256]):
        files = [{"path": path, "bytes": 0, "sha256": digest, "mode": 0} for path in paths]
        plain = {"format": 1, "name": "model-1", "files": files}
        content = {**plain, "sha256": hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()}
        body = json.dumps(content).encode()
        bucket.client.put_object(Bucket=bucket.name, Key=bucket.manifest_key("model-1"), Body=body)

        assert "values are wrong" in outcome(bucket, tmp_path / "scratch").problem

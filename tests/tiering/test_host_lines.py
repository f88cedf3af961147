"""Lines of a hostile host: each is refused with a reason, and nothing of them is used."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from rackwright.errors import ChangeRefused, StepFailed, UserError
from rackwright.tiering import bench, place
from rackwright.tiering.bucket import Bucket
from rackwright.tiering.manifest import ArchivedFile, SourceFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.remote import HostDirectory

USAGE = {"usage": {"used": 1, "total": 2}}
ITEM = {"path": "models/a", "bytes": 1, "files": 1, "newest": 5.5, "in_use": False}
FILE = {"path": "a", "mode": 420, "bytes": 1, "sha256": "0" * 64, "mtime_ns": 1}
SOURCE = SourceFile(ArchivedFile(path="a", mode=0o640, bytes=1, sha256="0" * 64), 1)


def directory(*lines: Any) -> HostDirectory:
    def run(argv: Any, stdin: bytes = b"", seconds: float = 0, on_line: Any = None) -> Any:
        for line in lines if on_line else ():
            on_line(line if isinstance(line, str) else json.dumps(line))
        return SimpleNamespace(status=0, stdout=b"", stderr=b"")

    return HostDirectory("h", "/d", lambda: SimpleNamespace(run=run))  # type: ignore[arg-type, return-value]


def bucket(aborted: list[str] | None = None) -> Bucket:
    client = SimpleNamespace(
        create_multipart_upload=lambda **_: {"UploadId": "1"},
        generate_presigned_url=lambda *_, **__: "https://x",
        abort_multipart_upload=lambda UploadId, **_: (aborted if aborted is not None else []).append(UploadId),
    )
    return Bucket("b", client)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [{"usage": 1}],
        [{"usage": {"used": "a", "total": 1}}],
        [{"usage": {"used": -1, "total": 1}}],
        [{"usage": {"used": True, "total": 1}}],
        [USAGE, {"item": {"x": 1}}],
        [USAGE, {"item": "abc"}],
        [USAGE, {"item": {**ITEM, "path": "../../etc"}}],
        [USAGE, {"item": {**ITEM, "path": "/etc"}}],
        [USAGE, {"item": {**ITEM, "path": "a\nb"}}],
        [USAGE, {"item": {**ITEM, "in_use": "no"}}],
        [USAGE, '{"item": {"path": "a", "bytes": 1, "files": 1, "newest": 1e999, "in_use": false}}'],
        [USAGE, {"item": {**ITEM, "bytes": 1 << 80}}],
    ],
)
def test_a_listing_of_another_form_is_refused(lines: list[Any]) -> None:
    with pytest.raises(StepFailed, match="a line of the host is refused"):
        directory(*lines).listing("*")


def test_a_good_listing_is_read() -> None:
    assert directory(USAGE, {"item": ITEM}).listing("*").items[0].path == "models/a"


@pytest.mark.parametrize(
    "line",
    [
        {"file": {key: value for key, value in FILE.items() if key != "mtime_ns"}},
        {"file": {**FILE, "mtime_ns": "x"}},
        {"file": {**FILE, "mtime_ns": 1 << 80}},
        {"file": {**FILE, "bytes": "1"}},
        {"file": {**FILE, "path": "../x"}},
        {"file": [1]},
        {"other": "x"},
        {"other": 1, "link": True},
    ],
)
def test_a_file_of_another_form_is_refused(line: Any) -> None:
    with pytest.raises((StepFailed, ChangeRefused)):
        directory(line).files()


@pytest.mark.parametrize(
    "line",
    [
        {"done": True},
        {"write_seconds": "x", "read_seconds": 1},
        {"write_seconds": "nan", "read_seconds": "inf"},
        {"write_seconds": 0, "read_seconds": 1},
        {"write_seconds": -1, "read_seconds": 1},
        '{"write_seconds": 1e999, "read_seconds": 1}',
    ],
)
def test_a_measurement_of_another_form_is_refused(line: Any) -> None:
    with pytest.raises(StepFailed):
        directory(line).measure("x", 1)


@pytest.mark.parametrize("line", [{"done": True}, {"changed": 1}, {"changed": [1]}, {"changed": "a"}])
def test_a_deletion_of_another_form_is_refused(line: Any) -> None:
    with pytest.raises(StepFailed):
        directory(line).delete([SOURCE])


@pytest.mark.parametrize("lines", [[], [{"part": 2, "tag": "x"}], [{"part": "1", "tag": "x"}], [{"part": 1, "tag": 5}]])
def test_an_upload_with_other_parts_is_aborted(lines: list[Any]) -> None:
    aborted: list[str] = []
    with pytest.raises(StepFailed):
        directory(*lines).upload(bucket(aborted), "a", SOURCE, Meter(lambda text: None, "", 1))
    assert aborted == ["1"]


@pytest.mark.parametrize("line", [{"path": "a"}, {"path": "a", "bytes": "1", "sha256": "0" * 64}, {"path": ["a"]}])
def test_a_result_of_another_form_is_refused(line: Any) -> None:
    with pytest.raises(StepFailed):
        directory(line).read_back(bucket(), "a", [SOURCE.file], Meter(lambda text: None, "", 1))


def test_an_error_says_whether_something_was_deleted() -> None:
    for line, note in (({"error": "x"}, True), ({"error": "x; 1 of 2 files were deleted", "in_part": True}, False)):
        with pytest.raises(StepFailed) as failed:
            directory(line).delete([SOURCE])
        assert ("nothing was deleted" in str(failed.value)) is note
    with pytest.raises(StepFailed, match="wrong values: error"):
        directory({"error": {"a": [1]}}).delete([SOURCE])


def test_a_measurement_with_other_files_ends_with_an_error() -> None:
    speeds = bench.measure(directory({"write_seconds": 1, "read_seconds": 1}), [bucket()], 1, lambda text: None)
    next(speeds)
    with pytest.raises(StepFailed, match="0 files are there"):
        next(speeds)


def test_one_hostile_host_ends_the_placement_of_no_other() -> None:
    rule = SimpleNamespace(tier="warm", directory="models", to=SimpleNamespace(tier=None, bucket="b"))
    tiers = {"warm": SimpleNamespace(mount="/srv/warm")}
    fleet: Any = SimpleNamespace(
        placement={"old": rule}, hosts=dict.fromkeys(("bad", "good"), SimpleNamespace(tiers=tiers))
    )
    connections = {"bad": directory("no JSON"), "good": directory(USAGE)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "hosts_of", lambda rule, hosts: [*hosts])
        patch.setattr(place.placement, "plan", lambda *_: [])
        fates, failed = place.observe(fleet, lambda host: connections[host].connect(), 0.0, lambda text: None)

    assert fates == () and {*failed} == {"bad"} and isinstance(failed["bad"], UserError)

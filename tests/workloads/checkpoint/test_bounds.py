"""A hostile archive or manifest costs no more memory, time or room on the drive than a real one."""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections import namedtuple
from pathlib import Path

import pytest

from tests.support import sample_checkpoints
from workloads.checkpoint import CheckpointDamaged, layout, manifest
from workloads.checkpoint.archive import ArchiveIOError, restore, verify
from workloads.checkpoint.tar_reader import EXTENDED_BYTES, TarReader

MEMORY_BYTES = 512 << 20
"""Address space of a process that proves a hostile archive; what the review's proof took is 4.5 GB."""
PROVE = """
import resource, sys
from pathlib import Path
from workloads.checkpoint import CheckpointDamaged, archive
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
try:
    archive.verify(Path(sys.argv[1]))
except CheckpointDamaged as damaged:
    print(damaged)
"""


def proved(path: Path) -> str:
    """Return how a process with little memory refuses the archive *path*."""
    done = subprocess.run(
        [sys.executable, "-c", PROVE, str(path), str(MEMORY_BYTES)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3], timeout=60,
    )  # fmt: skip
    assert done.stderr == "", done.stderr[-500:]
    return done.stdout


def header(name: str, size: int, sort: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, sort
    return info.tobuf(tarfile.GNU_FORMAT)


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


def manifest_text(world: int, files: dict[str, object], step: int = 1) -> bytes:
    return json.dumps({"format": manifest.FORMAT, "step": step, "world": world, "files": files}).encode()


def with_manifest(text: bytes) -> bytes:
    return header("step-0000000001/manifest.json", len(text)) + padded(text)


def test_a_manifest_of_many_shards_takes_no_memory_for_their_names(tmp_path):
    (tmp_path / "x.tar").write_bytes(with_manifest(manifest_text(20_000_000, {})) + b"\0" * 1024)

    assert "its files are not those of 20000000 shards" in proved(tmp_path / "x.tar")


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        (header("step-0000000001/manifest.json", 4 << 30), "its manifest has 4294967296 bytes, at most"),
        (header("x", 4 << 30, tarfile.XHDTYPE), f"an extended header of 4294967296 bytes, at most {EXTENDED_BYTES}"),
        (header("x", 4 << 30, tarfile.GNUTYPE_LONGNAME), "it does not begin with a manifest"),
        (header("x", 1 << 80, tarfile.GNUTYPE_SPARSE), "it does not begin with a manifest"),
    ],
)
def test_a_packed_archive_takes_no_more_than_its_bounds(tmp_path, begins, expected):
    members = gzip.compress(begins) + gzip.compress(bytes(16 << 20)) * 64  # 1 GiB in 1 MB
    (tmp_path / "x.tar.gz").write_bytes(members)

    assert expected in proved(tmp_path / "x.tar.gz")


def test_extended_headers_in_a_row_end_the_archive(tmp_path):
    (tmp_path / "x.tar").write_bytes(header("x", 0, tarfile.XHDTYPE) * 100_000)

    assert "it does not begin with a manifest" in proved(tmp_path / "x.tar")


def test_json_that_is_nested_without_end_is_no_manifest():
    for text in (b"[" * 200_000, b'{"files":' * 100_000):
        with pytest.raises(ValueError, match="more than 64 levels"):
            manifest.parse(text)


@pytest.mark.parametrize("number", [-1, 1 << 63, 1e3, True, "1", None, float("inf")])
@pytest.mark.parametrize("key", ["step", "world"])
def test_a_number_of_a_manifest_is_a_whole_one_of_63_bits(number, key):
    content = json.dumps({"format": manifest.FORMAT, "step": 1, "world": 1, "files": {}} | {key: number}).encode()
    with pytest.raises(ValueError, match=f"{key} is not a number of {key}s|Infinity, which JSON does not have"):
        manifest.parse(content)


def test_a_checkpoint_has_a_shard():
    with pytest.raises(ValueError, match="its files are not those of 0 shards"):
        manifest.parse(manifest.render(manifest.Manifest(1, 0, {})))


def archive_of(size: int, declared: int) -> bytes:
    entries = {name: manifest.ManifestEntry(declared, "0" * 64) for name in layout.file_names(1)}
    text = manifest.render(manifest.Manifest(1, 1, entries))
    name = f"step-0000000001/{min(layout.file_names(1))}"
    return with_manifest(text) + header(name, size) + padded(bytes(size)) + b"\0" * 1024


def test_no_file_is_unpacked_beyond_its_declared_size(tmp_path, monkeypatch):
    (tmp_path / "x.tar").write_bytes(archive_of(size=5000, declared=100))
    monkeypatch.setattr("workloads.checkpoint.disk.copy", lambda *_: pytest.fail("it was unpacked"))

    with pytest.raises(CheckpointDamaged, match="has 5000 bytes, not 100"):
        restore(tmp_path / "x.tar", tmp_path / "back")


def test_an_archive_is_not_restored_where_it_has_no_room(tmp_path, monkeypatch):
    (tmp_path / "x.tar").write_bytes(archive_of(size=100, declared=100))
    usage = namedtuple("usage", "total used free")(1000, 801, 199)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    with pytest.raises(ArchiveIOError, match="199 bytes are free; 200 bytes for the files of the archive"):
        restore(tmp_path / "x.tar", tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_what_follows_the_end_is_read_within_a_bound(tmp_path):
    sample_checkpoints.make(tmp_path / "digits", 1)
    members = [(path.name, path.read_bytes()) for path in sample_checkpoints.files(tmp_path / "digits", 1)]
    content = b"".join(header(f"step-0000000001/{name}", len(text)) + padded(text) for name, text in members)
    (tmp_path / "good.tar").write_bytes(content + bytes(10240))
    (tmp_path / "long.tar").write_bytes(content + bytes(2 << 20))

    assert verify(tmp_path / "good.tar").step == 1
    with pytest.raises(CheckpointDamaged, match="bytes follow its end"):
        verify(tmp_path / "long.tar")


@pytest.mark.parametrize("sort", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_every_usual_form_of_tar_is_read(sort):
    wanted = [("a/b", b"x" * 700), ("c" * 60 + "/" + "d" * 30, b""), ("e", b"y" * 512)]
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=sort) as tar:
        for name, content in wanted:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5 if sort == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(content))
    whole.seek(0)
    reader, found = TarReader(whole), []
    while member := reader.next():
        assert member.regular
        found.append((member.name, reader.read(10_000)))
    reader.finish()

    assert found == wanted


def test_a_size_of_more_than_8_gib_is_read_as_tarfile_writes_it():
    for sort in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("x")
        info.size = 9 << 30
        assert TarReader(io.BytesIO(info.tobuf(sort))).next().size == 9 << 30


@pytest.mark.parametrize("sort", ["link", "pipe"])
def test_a_manifest_or_shard_is_a_regular_file(tmp_path, sort):
    sample_checkpoints.make(tmp_path, 1)
    for path in sample_checkpoints.files(tmp_path, 1):
        content = path.read_bytes()
        path.unlink()
        if sort == "pipe":
            os.mkfifo(path)
        else:
            (tmp_path / "elsewhere").write_bytes(content)
            path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CheckpointDamaged):
            found = manifest.read(path.parent)
            manifest.verify(path.parent, found)
        path.unlink()
        path.write_bytes(content)

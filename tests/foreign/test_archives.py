"""Archives from others: hostile and damaged ones end with a reason, in linear time, and usual ones are read."""

import io
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rackwright.endpoints.oci_archive import open_image
from rackwright.errors import DeclarationError
from rackwright.foreign import InvalidData, archives
from rackwright.foreign.paths import open_below, open_regular
from rackwright.iteration.classifiers import digest_arrays
from rackwright.tiering.restore_test import load_problem

SECONDS = 20
"""Limit of one case, after which it counts as hung; a case takes milliseconds."""


@contextmanager
def no_hang() -> Iterator[None]:
    def over(*_: object) -> None:
        raise AssertionError(f"it takes more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def header(name: bytes, size: int | bytes, kind: bytes = b"0", sparse: bytes = b"") -> bytes:
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    block = bytearray(512)
    block[: len(name)] = name
    block[100:124] = b"0000644\0" * 3
    block[124:148] = field + b"00000000000\0"
    block[156:157], block[257:265], block[148:156] = kind, b"ustar\x0000", b" " * 8
    block[482:483] = sparse or b"\0"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def extended(content: bytes, kind: bytes = b"x") -> bytes:
    return header(b"p", len(content), kind) + content + bytes(-len(content) % 512)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


END = bytes(1024)
LAST = header(b"a", 0) + END
HOSTILE_TARS = {
    "no records in an extended header": extended(b"0" * 800_000) + LAST,
    "an extended header of spaces": extended(b"1 " * 400_000) + LAST,
    "a long extended header": extended(b"0" * 4_000_000) + LAST,
    "many keys": extended(b"".join(record(b"k%d" % each, b"v") for each in range(100_000))) + LAST,
    "extended headers in a row": header(b"p", 0, b"x") * 20_000 + LAST,
    "long names in a row": header(b"p", 0, b"L") * 1_000 + LAST,
    "global headers in a row": header(b"p", 0, b"g") * 1_000 + LAST,
    "an extended header at the end": header(b"p", 0, b"x"),
    "a record of no length": extended(b"0 k=v\n") + LAST,
    "a record beyond its header": extended(b"900 k=v\n") + LAST,
    "a negative size": header(b"a", b"\xff" * 10 + b"\xfe\0") + END,
    "a negative size in a record": extended(record(b"size", b"-512")) + LAST,
    "a size of many digits": extended(record(b"size", b"9" * 4_000)) + LAST,
    "a size beyond the file": header(b"a", 1 << 30) + END,
    "a size of 2**88": header(b"a", b"\x80" + b"\xff" * 11) + END,
    "an endless sparse map": header(b"a", 0, b"S", b"\1") + (bytes(504) + b"\1" + bytes(7)) * 20_000,
    "another checksum": header(b"a", 0).replace(b"0000644", b"0000645", 1) + END,
    "a name of a mebibyte": extended(b"./" + "\U0001f600".encode() + b"\xff" * 1_000_000, b"L") + LAST,
    "a path of a mebibyte": extended(record(b"path", b"\xff" * 1_000_000)) + LAST,
    "half a header": header(b"a", 0)[:300],
    "empty": b"",
}


@pytest.mark.parametrize("name", HOSTILE_TARS)
def test_a_hostile_tar_file_ends_with_a_reason(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(HOSTILE_TARS[name])

    with no_hang():
        assert load_problem(tmp_path, "a.tar").startswith("a.tar cannot be loaded: ")
        with pytest.raises(DeclarationError), open_image(path):
            pass


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MEMBERS_MAX", 10)
    (tmp_path / "a.tar").write_bytes(header(b"a", 0) * 11 + END)
    (tmp_path / "b.tar").write_bytes(header(b"a", 0) * 10 + END)

    assert "more than 10 members" in load_problem(tmp_path, "a.tar")
    assert load_problem(tmp_path, "b.tar") == ""


WIDE = "\U0001f600".encode() + b"\xff" * 4_080
"""The longest sort of name: a decoder that keeps its damaged bytes as escapes makes 65 KiB of it."""
LARGE_TARS = {
    "long names": lambda: b"".join(extended(b"%08d" % n + WIDE, b"L") + header(b"a", 0) for n in range(6_000)) + END,
    "long paths": lambda: (
        b"".join(extended(record(b"path", b"%08d" % n + WIDE)) + header(b"a", 0) for n in range(6_000)) + END
    ),
    "long links": lambda: b"".join(extended(WIDE * 20, b"K") + header(b"%d" % n, 0) for n in range(300)) + END,
    "many records": lambda: (
        b"".join(
            extended(b"".join(record(b"%d.%d" % (head, n), b"") for n in range(6_000)))
            for head in range(archives.EXTENDED_IN_ROW)
        )
        + LAST
    ),
}


@pytest.mark.parametrize("name", LARGE_TARS)
def test_a_tar_file_takes_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(LARGE_TARS[name]())
    tracemalloc.start()
    try:
        with pytest.raises(DeclarationError), open_image(path):
            pass
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most < (8 if name == "many records" else 40) << 20


def test_names_of_a_tar_file_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "NAMES_TOTAL", 1_000)
    (tmp_path / "a.tar").write_bytes(b"".join(header(b"%08d" % n + b"x" * 42, 0) for n in range(21)) + END)
    (tmp_path / "b.tar").write_bytes(b"".join(header(b"%08d" % n + b"x" * 42, 0) for n in range(20)) + END)

    assert "names are longer than 1000 bytes" in load_problem(tmp_path, "a.tar")
    assert load_problem(tmp_path, "b.tar") == ""


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_usual_tar_files_are_read_as_python_reads_them(tmp_path: Path, form: int) -> None:
    names = ["a", "d/" + "b" * 90, "ä" * 20] + ([] if form == tarfile.USTAR_FORMAT else ["c" * 300, "e/" * 60 + "f"])
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=form, pax_headers={"comment": "x"}) as file:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 700 * number, 1.5 if form == tarfile.PAX_FORMAT else 1
            file.addfile(member, io.BytesIO(bytes([number]) * member.size))
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("dir", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "a" * 150 if form != tarfile.USTAR_FORMAT else "a"
            file.addfile(member)

    with archives.open_tar(path) as archive:
        assert [*archive.members] == [name.encode() for name in (*names, "link", "hard", "dir/")]
        for number, name in enumerate(names):
            assert archive.open(name).read(1 << 20) == bytes([number]) * 700 * number
        for name in ("link", "hard", "dir/", "none"):
            with pytest.raises(KeyError):
                archive.open(name)


@pytest.mark.parametrize("options", ["--format=gnu -S", "--format=pax -S", "--format=v7", "--format=oldgnu"])
def test_tar_files_of_gnu_tar_are_read(tmp_path: Path, options: str) -> None:
    if shutil.which("tar") is None:
        pytest.skip("no tar")
    (tmp_path / "d").mkdir()
    with (tmp_path / "d/sparse").open("wb") as file:
        for part in range(60):
            file.seek(part << 16)
            file.write(b"x")
    (tmp_path / "d/whole").write_bytes(b"content")
    subprocess.run(["tar", *options.split(), "-cf", "a.tar", "d"], cwd=tmp_path, check=True)

    with archives.open_tar(tmp_path / "a.tar") as archive:
        assert archive.members[b"d/whole"].is_regular
        assert archive.open("d/whole").read(100) == b"content"


def zipped(members: int, offset: Callable[[int], int], method: int = 8) -> bytes:
    """Return a zip file whose members have the places *offset*, after one body."""
    compress = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = compress.compress(bytes(1 << 20)) + compress.flush()
    crc, size = zlib.crc32(bytes(1 << 20)), 1 << 20
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, method, 0, 0, crc, len(body), size, 1, 0) + b"a" + body
    directory = b"".join(
        struct.pack(
            "<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, method, 0, 0, crc, len(body), size, 1, 0, 0, 0, 0, 0, at
        )
        + b"a"
        for at in map(offset, range(members))
    )
    content = local * 2
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, members, members, len(directory), len(content), 0)
    return content + directory + end


HOSTILE_ZIPS = {
    "members that share a body": (zipped(500, lambda each: 0), "shares bytes"),
    "a member within another": (zipped(2, lambda each: each * 7), "shares bytes"),
    "a small file of terabytes": (zipped(3_000, lambda each: 0), "unpack to too much"),
    "another compression": (zipped(1, lambda each: 0, 12), "compressed by method 12"),
    "no directory": (b"PK\5\6" + b"\xff" * 18, "damaged"),
    "no zip file": (b"0" * 100_000, "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE_ZIPS)
def test_a_hostile_zip_file_ends_with_a_reason(tmp_path: Path, name: str) -> None:
    content, reason = HOSTILE_ZIPS[name]
    (tmp_path / "a.zip").write_bytes(content)

    with no_hang():
        assert reason in load_problem(tmp_path, "a.zip")


def test_a_usual_zip_file_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(20):
            file.writestr(f"{number}.npy", b"weights" * 1000)
        file.writestr("empty", b"")

    archives.check_zip(tmp_path / "a.zip")


def rows(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, b"x" * 100)
    return buffer.getvalue()


DAMAGED_ROWS = {
    "another name in the member's header": rows("é.npy").replace("é".encode(), b"\xff\xff", 1),
    "a field beyond the end": rows("a.npy")[:28] + b"\x60\xea" + rows("a.npy")[30:],
    "a password": rows("a.npy").replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"),
}


@pytest.mark.parametrize("name", DAMAGED_ROWS)
def test_damaged_rows_end_with_a_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.npz").write_bytes(DAMAGED_ROWS[name])

    with pytest.raises(DeclarationError, match="cannot be read: (a|.{1,4}).npy in it is damaged"):
        digest_arrays(tmp_path / "a.npz")
    with pytest.raises(InvalidData):
        archives.check_zip(tmp_path / "a.npz")


def test_rows_with_any_wrong_bytes_have_a_digest_or_a_reason(tmp_path: Path) -> None:
    chance, path = random.Random(1), tmp_path / "a.npz"
    refused = 0
    for _ in range(1_000):
        content = bytearray(rows("é.npy"))
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(len(content))] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(content)
        try:
            digest_arrays(path)
        except DeclarationError:
            refused += 1

    assert 0 < refused < 1_000


def _link(path: Path) -> None:
    target = path.parent / "target"
    target.write_bytes(b"{}")
    path.symlink_to(target)


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{folder}/s")  # the path of a socket has at most 107 bytes
    os.close(folder)
    (path.parent / "s").rename(path)


SPECIAL: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a link": _link,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a directory": Path.mkdir,
    "a socket": _socket,
}


@pytest.mark.parametrize("ending", [".json", ".safetensors", ".zip", ".tar", ".npz"])
@pytest.mark.parametrize("kind", SPECIAL)
def test_a_restored_special_file_is_not_opened(tmp_path: Path, kind: str, ending: str) -> None:
    SPECIAL[kind](tmp_path / f"w{ending}")

    with no_hang():
        assert load_problem(tmp_path, f"w{ending}").startswith(f"w{ending} cannot be loaded: w{ending} is ")


@pytest.mark.parametrize("place", ["index.json", "blobs", "blobs/sha256", "blobs/sha256/" + "a" * 64])
@pytest.mark.parametrize("kind", [kind for kind in SPECIAL if kind != "a directory"])
def test_a_special_file_in_an_image_directory_is_not_opened(tmp_path: Path, kind: str, place: str) -> None:
    folder = tmp_path / "image"
    (folder / place).parent.mkdir(parents=True)
    SPECIAL[kind](folder / place)
    if place != "index.json":
        kind = "application/vnd.oci.image.manifest.v1+json"
        entry = f'{{"mediaType": "{kind}", "digest": "sha256:{"a" * 64}", "size": 2}}'
        (folder / "index.json").write_text(f'{{"manifests": [{entry}]}}')

    with no_hang(), pytest.raises(DeclarationError, match="special file|no regular file|missing"), open_image(folder):
        pass


def test_names_that_leave_a_directory_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d/d").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    for name in ("../secret", "./secret", "d/../../secret", "d//x"):
        with pytest.raises(InvalidData):
            open_below(tmp_path / "d", name)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")

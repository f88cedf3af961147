"""Archives of checkpoints, plain and packed: verified or `CheckpointDamaged`, and restored within a directory."""

import gzip
import io
import json
import shutil
import tarfile
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from tests.support.fuzz.bounds import cases
from tests.support.fuzz.mutate import Mutations, mutated_bytes, mutated_data, of_bytes, of_data
from workloads.checkpoint import CheckpointDamaged, archive, layout, manifest
from workloads.checkpoint.archive import ArchiveIOError
from workloads.checkpoint.manifest import Manifest, ManifestEntry

CONTENT = {name: name.encode() * 20 for name in sorted(layout.file_names(1))}
MANIFEST = manifest.render(
    Manifest(7, 1, {name: ManifestEntry(len(c), sha256(c).hexdigest()) for name, c in CONTENT.items()})
)
BELOW = "step-0000000007/"
TYPES = (b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"L", b"K", b"S", b"g", b"x", b"X", b"V")
SIZES = (-1, 0, 1, 511, 512, 513, 1 << 20, 8 << 30, 1 << 62, 1 << 80)
fields = st.lists(
    st.tuples(
        st.sampled_from(("name", "type", "size", "pax")), st.integers(0, 2), st.integers(0, 1000), st.integers(0, 1000)
    ),
    max_size=3,
)


def pack_archive(members: list[tuple[str, bytes]], changes: list[tuple[str, int, int, int]], form: int) -> bytes:
    """Return a tar archive of *members* of which some headers say something else; every checksum is right."""
    whole = io.BytesIO()
    for number, (name, content) in enumerate(members):
        info = tarfile.TarInfo(name)
        info.size, info.mtime = len(content), 1.5 if form == tarfile.PAX_FORMAT else 1
        for sort, which, what, more in changes:
            if which != number:
                continue
            if sort == "name":
                info.name = ("../x", "/etc/passwd", BELOW + "x", "x" * 300, BELOW + "../x", "", "é\x1b")[what % 7]
            elif sort == "type":
                info.type = TYPES[what % len(TYPES)]
            elif sort == "size":
                info.size = SIZES[what % len(SIZES)]
            else:
                key = ("size", "path", "GNU.sparse.major", "GNU.sparse.map", "GNU.sparse.size", "hdrcharset")[what % 6]
                info.pax_headers[key] = ("0", "-1", "9" * 400, "1", BELOW + "x", "0,9999999999", "\n")[more % 7]
        try:
            header = info.tobuf(form, "utf-8", "surrogateescape")
        except (ValueError, OverflowError):
            header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") if info.size >= 0 else b""
        whole.write(header + content + b"\0" * (-len(content) % 512))
    return whole.getvalue() + bytes(1024)


class Target:
    """The directory and files of one run."""

    def __init__(self, directory: Path) -> None:
        self.path, self.into = directory / "x.tar", directory / "into"

    def check(self, case: tuple[Any, Mutations, Mutations | None, int, int]) -> None:
        changes, data, raw, form, gz = case
        text = MANIFEST
        if gz % 2:
            text = json.dumps(mutated_data(json.loads(MANIFEST), data), indent=1).encode(errors="replace") + b"\n"
        members = [(BELOW + "manifest.json", text), *((BELOW + name, content) for name, content in CONTENT.items())]
        content = pack_archive(members, changes, form)
        if gz % 4 == 2:
            content = mutated_bytes(content, raw or [])
        if gz % 3 == 0:
            content = gzip.compress(content, 1)
        if gz % 5 == 0:
            content = mutated_bytes(content, raw or [])
        self.path.write_bytes(content)
        try:
            found = archive.restore(self.path, self.into)
            assert {path.name: path.read_bytes() for path in found.path.iterdir()} == {
                **CONTENT,
                manifest.NAME: MANIFEST,
            }
            shutil.rmtree(found.path)
        except (CheckpointDamaged, ArchiveIOError):
            pass
        assert not list(self.into.iterdir()), "something is left behind"
        assert {path.name for path in self.path.parent.iterdir()} == {"x.tar", "into"}, "something is written elsewhere"


def run(count: int, number: int) -> None:
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        strategy = st.tuples(
            fields, of_data, of_bytes, st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)), st.integers(0, 59)
        )
        cases(count, number, strategy, Target(Path(directory)).check)

"""Hardening, line 17: a small archive of a checkpoint takes little memory, time and room, whatever it declares."""

import gzip
import json
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from workloads.checkpoint import layout, manifest
from workloads.checkpoint.manifest import Manifest, ManifestEntry

MOST_MIB = 200
"""The most memory of a command; proving the first archive took 4.5 GB."""
MEASURED = (
    "import atexit, pathlib, sys; "
    "status = pathlib.Path('/proc/self/status'); "
    "atexit.register(lambda: print('PEAK', int(status.read_text().split('VmHWM:')[1].split()[0]) // 1024)); "
    "sys.argv = ['rackwright', *sys.argv[1:]]; from rackwright.cli import main; sys.exit(main())"
)
BELOW = "step-0000000001/"


@line("hardening", 17)
def test_a_small_hostile_archive_takes_little_memory(log: Log) -> str:
    """The real command, which proves and restores archives that declare more than they hold, or hold too much."""
    directory, peak, count = log.empty_directory(), 0, 0
    for name, (write, message) in ARCHIVES.items():
        path, into = directory / name, directory / "into"
        write(path)
        for more in ([], ["--to", str(into)]):
            done = log.run([sys.executable, "-c", MEASURED, "restore", str(path), *more], timeout=300)
            took = int(done.stdout.rpartition("PEAK ")[2] or 0)
            peak, count = max(peak, took), count + 1
            need(done.returncode in (1, 4), f"{name}: `rackwright restore` ended with {done.returncode}")
            need("Traceback" not in done.stderr and message in done.stderr, f"{name}: {done.stderr[-300:]}")
            need(0 < took <= MOST_MIB, f"{name} of {path.stat().st_size} bytes took {took} MiB, at most {MOST_MIB}")
            need(not into.exists() or not list(into.iterdir()), f"{name}: something is left in {into}")
    good = directory / "good.tar"
    _tar(good, _manifest({name: name.encode() for name in layout.file_names(1)}), dict.fromkeys(layout.file_names(1)))
    done = log.run([sys.executable, "-c", MEASURED, "restore", str(good), "--to", str(directory / "good")], timeout=60)
    need(done.returncode == 0, f"a good archive: {done.stderr}")
    return f"{len(ARCHIVES)} hostile archives, {count} commands: refused in plain words, at most {peak} MiB of memory"


def _manifest(content: dict[str, bytes], size: int | None = None) -> bytes:
    entries = {
        name: ManifestEntry(len(each) if size is None else size, sha256(each).hexdigest())
        for name, each in content.items()
    }
    return manifest.render(Manifest(1, len(content) // 2, entries))


def _tar(path: Path, text: bytes, files: dict[str, bytes | None]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in ((manifest.NAME, text), *sorted((n, c or n.encode()) for n, c in files.items())):
            info = tarfile.TarInfo(BELOW + name)
            info.size = len(content)
            tar.addfile(info, BytesIO(content))


def _many_shards(path: Path) -> None:
    content = {"format": manifest.FORMAT, "step": 1, "world": 20_000_000, "files": {}}
    _tar(path, json.dumps(content).encode(), {})


def _header(name: str, size: int, sort: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, sort
    return info.tobuf(tarfile.GNU_FORMAT)


def _zeros_behind(begins: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with gzip.open(path, "wb", compresslevel=9) as file:
            file.write(begins)
            for _ in range(32):
                file.write(bytes(16 << 20))

    return write


def _nested(path: Path) -> None:
    _tar(path, b"[" * 200_000, {})


def _larger_than_declared(path: Path) -> None:
    names = sorted(layout.file_names(1))
    _tar(path, _manifest(dict.fromkeys(names, b"x")), {name: bytes(1000) for name in names})


def _larger_than_the_drive(path: Path) -> None:
    names = sorted(layout.file_names(1))
    _tar(path, _manifest(dict.fromkeys(names, b"x"), 1 << 60), dict.fromkeys(names, b"x"))


ARCHIVES: dict[str, tuple[Callable[[Path], None], str]] = {
    "many-shards.tar": (_many_shards, "its files are not those of 20000000 shards"),
    "manifest.tar.gz": (
        _zeros_behind(_header(BELOW + manifest.NAME, 1 << 29, tarfile.REGTYPE)), "its manifest has 536870912 bytes",
    ),
    "extended.tar.gz": (
        _zeros_behind(_header("x", 1 << 29, tarfile.XHDTYPE)), "an extended header of 536870912 bytes",
    ),
    "long-name.tar.gz": (
        _zeros_behind(_header("x", 1 << 29, tarfile.GNUTYPE_LONGNAME)), "it does not begin with a manifest",
    ),
    "nested.tar": (_nested, "the data has more than 64 levels"),
    "larger.tar": (_larger_than_declared, "has 1000 bytes, not 1"),
    "drive.tar": (_larger_than_the_drive, "bytes"),
}  # fmt: skip
"""By name: how it is written, and part of the refusal."""

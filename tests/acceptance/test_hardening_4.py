"""Root copies a model from a tier while its account changes the directory, and copies nothing else."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import ROOT, Log
from tests.support.workloads import python

SECRET = "root:$6$secret-of-root"
ATTACKER = 65534
"""Uid and gid of the account that owns the model's directory."""
LARGE_BYTES, COPIES = 64 << 20, 5
MODEL = """
import sys
from pathlib import Path
from workloads.serving.model import publish
top = Path(sys.argv[1])
(top / "a").write_bytes(bytes(int(sys.argv[2])))
(top / "b").write_bytes(b"{}")
print(publish(top / "source", {"a.bin": top / "a", "b.json": top / "b"}, "m", (), (), {}).version)
"""
SWAP = """
import os, sys
source, partial, secret = sys.argv[1:]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print("ready", flush=True)
original = source + "/b.json"
while True:
    os.rename(original, source + "/kept"); os.symlink(secret, original)
    os.unlink(original); os.rename(source + "/kept", original)
"""
"""Runs as the owner: makes one file a link to root's secret and back, as fast as it can."""


@line("hardening", 4)
def test_root_copies_nothing_but_the_model(log: Log) -> str:
    """Links, FIFOs and sparse files in a directory that another account owns."""
    if os.geteuid() != 0:
        pytest.skip("to copy for another account needs root")
    interpreter = python(log)
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        done = log.run([interpreter, "-c", MODEL, str(top), str(LARGE_BYTES)], ROOT)
        need(done.returncode == 0, f"the model could not be made: {done.stderr[-300:]}")
        version, source, models = done.stdout.strip(), top / "source", top / "models"
        (top / "secret").write_text(SECRET)
        (top / "secret").chmod(0o600)
        for path in (source, *source.iterdir()):
            os.chown(path, ATTACKER, ATTACKER)

        def place() -> subprocess.CompletedProcess[str]:
            argv = [interpreter, "-m", "workloads.serving.place", str(models), version, "--copy", str(source)]
            return log.run(argv, ROOT, {**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)

        refused = 0
        for attack in (_link, _manifest_link, _fifo, _sparse, _directory_link):
            undo = attack(source, top)
            done = place()
            need(done.returncode in (1, 2), f"{attack.__name__}: place ended with {done.returncode}")
            need(SECRET not in done.stdout + done.stderr, f"{attack.__name__}: the secret is in what it says")
            _nothing_left(models, attack.__name__)
            undo()
            refused += 1

        races, leaks = _raced(source, models, top, place)
        need(not leaks, f"other accounts could read {leaks[:3]}")
        done = place()
        need(done.returncode == 0, f"the model itself is refused: {done.stderr[-300:]}")
        placed = models / version
        modes = {oct(path.stat().st_mode & 0o777) for path in placed.iterdir()}
        need(modes == {"0o640"} and placed.stat().st_mode & 0o777 == 0o750, f"it has the modes {modes}")
        return (
            f"{refused} kinds of files refused and nothing left; {races} copies raced by the owner, no byte of root's"
            " secret and no partial copy that another account could read; the model itself is placed with 0750 and 0640"
        )


def _nothing_left(models: Path, what: str) -> None:
    left = sorted(path.name for path in models.iterdir()) if models.is_dir() else []
    need(not left, f"{what} leaves {left}")


def _link(source: Path, top: Path) -> Callable[[], object]:
    return _exchange(source / "b.json", lambda path: path.symlink_to(top / "secret"))


def _manifest_link(source: Path, top: Path) -> Callable[[], object]:
    return _exchange(source / "model.json", lambda path: path.symlink_to(top / "secret"))


def _fifo(source: Path, top: Path) -> Callable[[], object]:
    return _exchange(source / "b.json", os.mkfifo)


def _sparse(source: Path, top: Path) -> Callable[[], object]:
    """A file that says it has more bytes than any drive; that is no part of a version."""
    description = json.loads((source / "model.json").read_text())
    description["files"]["a.bin"]["bytes"] = 1 << 42
    undo = _exchange(source / "a.bin", lambda path: (path.touch(), os.truncate(path, 1 << 42)))
    again = _exchange(source / "model.json", lambda path: path.write_text(json.dumps(description)))
    return lambda: (undo(), again())


def _directory_link(source: Path, top: Path) -> Callable[[], object]:
    return _exchange(source, lambda path: path.symlink_to(top / "elsewhere"), top / "elsewhere")


def _exchange(path: Path, make: Callable[[Path], object], kept: Path | None = None) -> Callable[[], object]:
    """Put something else in the place of *path*, and return what puts it back."""
    kept = kept or path.with_name(f".{path.name}.kept")
    path.rename(kept)
    make(path)
    return lambda: (path.unlink(), kept.rename(path))


def _raced(
    source: Path, models: Path, top: Path, place: Callable[[], subprocess.CompletedProcess[str]]
) -> tuple[int, list[str]]:
    """Copy while the owner makes a file a link and back; return how often, and what others could read meanwhile."""
    argv = [sys.executable, "-I", "-c", SWAP, str(source), str(models), str(top / "secret")]
    swapping = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    models.mkdir(exist_ok=True)
    leaks: list[str] = []
    done = threading.Event()

    def watch() -> None:
        """Note every partial directory that others may enter."""
        while not done.is_set():
            for path in models.glob(".*.partial"):
                try:
                    mode = path.stat().st_mode & 0o777
                except FileNotFoundError:
                    continue
                if mode & 0o007:
                    leaks.append(f"{path.name} {mode:04o}")

    watching = threading.Thread(target=watch)
    try:
        assert swapping.stdout
        swapping.stdout.readline()
        watching.start()
        for _ in range(COPIES):
            place()
            leaks += [str(path) for path in models.rglob("b.json") if SECRET.encode() in path.read_bytes()]
        return COPIES, leaks
    finally:
        swapping.kill()
        swapping.wait()
        done.set()
        watching.join()
        kept = source / "kept"
        if kept.exists():
            (source / "b.json").unlink(missing_ok=True)
            kept.rename(source / "b.json")

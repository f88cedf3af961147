"""A second object store of another make on loopback: Versity's S3 gateway over a directory."""

import contextlib
import json
import platform
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import cache, go
from rackwright.toolchain.go import Programs
from tests.support.object_store import ACCESS_KEY, KEYS, READY_SECONDS, Server, free_ports

MODULE = Path(__file__).with_name("versitygw")
"""Directory with the go.mod and the go.sum that pin the server's version and the checksums of its sources."""
PROGRAM = Programs(MODULE, ("github.com/versity/versitygw/cmd/versitygw",))


def ensure_program(progress: Progress) -> Path:
    """Return the server's program in the per-user cache, after a build of some minutes if there is none yet.

    Raises:
        ToolUnavailable: Go is missing or too old, or a go command failed.
    """
    directory = cache.directory() / "versitygw" / f"{go.digest(MODULE)}-{platform.machine()}"
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with cache.hold_lock(directory.with_suffix(".lock"), progress):
            if not directory.is_dir():
                with cache.replace_directory(directory) as incomplete:
                    _build(incomplete, progress)
    return directory / "versitygw"


def _build(into: Path, progress: Progress) -> None:
    builder = go.find(cache.directory() / "logs" / "versitygw.log", progress)
    progress(f"building versitygw from Go modules (log {builder.log})")
    with tempfile.TemporaryDirectory(dir=cache.directory()) as own:  # another build may use the shared caches
        caches = {"GOCACHE": f"{own}/build", "GOMODCACHE": f"{own}/modules"}
        builder.environment = {**builder.environment, **caches}
        builder.build(PROGRAM, into)


@contextlib.contextmanager
def versity(directory: Path, progress: Progress) -> Iterator[Server]:
    """Run the gateway over the empty *directory*, with the accounts of `tests.support.object_store`."""
    program = ensure_program(progress)
    for name in ("data", "versions", "accounts"):
        (directory / name).mkdir()
    (directory / "accounts/users.json").write_text(json.dumps({"accessAccounts": _accounts()}))
    [port] = free_ports(1)
    argv = [
        *(program, f"--port=127.0.0.1:{port}", f"--iam-dir={directory}/accounts", "--region=us-east-1", "--quiet"),
        *("posix", f"--versioning-dir={directory}/versions", directory / "data"),
    ]
    environment = {"HOME": str(directory), "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": KEYS[ACCESS_KEY]}
    with (directory / "versitygw.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=directory, env=environment)
    try:
        _wait(port, process, directory)
        yield Server(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _accounts() -> dict[str, dict[str, object]]:
    """Return the accounts without a right of their own, as the gateway's file has them."""
    names = (name for name in KEYS if name != ACCESS_KEY)
    return {name: {"access": name, "secret": KEYS[name], "role": "user"} for name in names}


def _wait(port: int, process: "subprocess.Popen[bytes]", directory: Path) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        log = (directory / "versitygw.log").read_text()[-2000:]
        assert process.poll() is None and time.monotonic() < end, log
        time.sleep(0.2)

"""Servers for tests that are built from Go modules, once for each computer and version."""

import platform
import socket
import subprocess
import time
from pathlib import Path

from rackwright.progress import Progress
from rackwright.toolchain import cache, go
from rackwright.toolchain.go import Programs
from tests.support.object_store import READY_SECONDS


def ensure_program(module: Path, package: str, progress: Progress) -> Path:
    """Return the program of *package* in the per-user cache, after a build of some minutes if there is none yet.

    Args:
        module: Directory with the go.mod and the go.sum that pin the server's version and the checksums of its sources.

    Raises:
        ToolUnavailable: Go is missing or too old, or a go command failed.
    """
    name = package.rpartition("/")[2]
    directory = cache.directory() / "test-programs" / f"{name}-{go.digest(module)}-{platform.machine()}"
    if not directory.is_dir():
        directory.parent.mkdir(parents=True, exist_ok=True)
        with go.hold_builder(name, progress) as builder:
            if not directory.is_dir():
                progress(f"building {name} from Go modules (log {builder.log})")
                with cache.replace_directory(directory) as incomplete:
                    builder.build(Programs(module, (package,)), incomplete)
    return directory / name


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when *process* listens at *port* of loopback."""
    end = time.monotonic() + READY_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.2)

"""Ctrl-C of commands that read hosts: `stopping` at once, and the end within seconds, whatever a host does."""

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.pulumi.test_plugin import OneHost, project
from tests.support.recorded_hosts import HOST

__all__ = ["project"]
pytestmark = pytest.mark.pulumi
ROOT = Path(__file__).parents[2]
END_SECONDS = 2.0
CONNECT, READ = r"gpu-01  step 1/2: connect +\d+ s", r"gpu-01  step 2/2: read facts +\d+ s"


@contextlib.contextmanager
def silent(project: OneHost) -> Iterator[None]:
    """Put a listener that never answers in the place of the host."""
    with socket.create_server((project.host.address, 0)) as server:
        fleet = project.directory / "stacks/fleet.yaml"
        port = server.getsockname()[1]
        fleet.write_text(re.sub(r"port: \d+", f"port: {port}", fleet.read_text()))
        pins = project.directory / "stacks/fleet.known_hosts"
        pins.write_text(re.sub(r"\]:\d+ ", f"]:{port} ", pins.read_text()))
        yield


@contextlib.contextmanager
def slow_probe(project: OneHost) -> Iterator[None]:
    """Make the probe of the host wait without an end."""
    facts = project.rack[HOST].directory / "facts"
    facts.unlink()
    os.mkfifo(facts)
    yield
    with contextlib.suppress(OSError):  # no probe waits any more
        os.close(os.open(facts, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize(
    ("hang", "shown", "arguments"),
    [
        (silent, CONNECT, ("audit", "lab")),
        (slow_probe, READ, ("audit", "lab", "--format", "html", "--output", "audit.html")),
        (slow_probe, READ, ("preview", "lab")),
        (slow_probe, READ, ("up", "lab")),
        (silent, CONNECT, ("status", "lab")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_waiting_is_shown_and_ctrl_c_ends_it(project, hang, shown, arguments, columns) -> None:
    if columns == 40 and arguments[0] not in ("audit", "preview"):
        pytest.skip("the lines are those of the other commands")
    with hang(project):
        child = pexpect.spawn(
            sys.executable,
            ["-m", "tests.pulumi.command", *arguments],
            cwd=str(project.directory),
            env=os.environ | project.environment | {"PYTHONPATH": str(ROOT)},
            dimensions=(24, columns),
            timeout=120,
            encoding="utf-8",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        child.expect(shown)
        child.sendcontrol("c")
        began = time.monotonic()
        child.expect("stopping")
        said = time.monotonic() - began
        child.expect(pexpect.EOF)
        ended = time.monotonic() - began
        child.close()
        assert child.exitstatus == 130, child.before
        assert "running it again is safe" in child.before
        assert (said < 1, ended < END_SECONDS) == (True, True), (said, ended)

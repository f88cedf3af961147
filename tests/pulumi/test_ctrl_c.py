"""Ctrl-C of commands that read hosts: `stopping` at once, and the end within seconds, whatever a host does."""

import contextlib
import json
import os
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pexpect
import pytest

from tests.pulumi.test_plugin import OneHost, made, project
from tests.support.processes import tree
from tests.support.recorded_hosts import HOST
from tests.support.signals import as_in_a_terminal

__all__ = ["made", "project"]
pytestmark = pytest.mark.pulumi
ROOT = Path(__file__).parents[2]
END_SECONDS = 2.0
Hang = Callable[[OneHost], contextlib.AbstractContextManager[None]]
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
    check_end(project, hang, shown, arguments, columns)


def spawn(project: OneHost, argv: Sequence[str], columns: int = 80) -> "pexpect.spawn[str]":
    return pexpect.spawn(
        argv[0],
        [*argv[1:]],
        cwd=str(project.directory),
        env=os.environ | project.environment | {"PYTHONPATH": str(ROOT)},
        dimensions=(24, columns),
        timeout=120,
        encoding="utf-8",
        preexec_fn=as_in_a_terminal,
    )


def check_end(project: OneHost, hang: Hang, shown: str, arguments: Sequence[str], columns: int = 80) -> None:
    """Require that a command that waits for the host shows it, and ends at Ctrl-C."""
    with hang(project):
        child = spawn(project, (sys.executable, "-m", "tests.pulumi.command", *arguments), columns)
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


@pytest.mark.parametrize(("hang", "shown"), [(silent, CONNECT), (slow_probe, READ)], ids=["connect", "read"])
def test_a_destroy_that_waits_ends_at_ctrl_c_and_removes_nothing(made, hang, shown) -> None:
    check_end(made, hang, shown, ("destroy", "lab"))

    assert not (made.host.directory / "steps").exists()


def test_a_refresh_by_pulumi_that_waits_ends_at_ctrl_c(made) -> None:
    before = made.pulumi("stack", "export", "--stack", "lab").raw
    with slow_probe(made):
        child = spawn(made, ("pulumi", "refresh", "--yes", "--skip-preview", "--stack", "lab"))
        fifo = await_reader(made.rack[HOST].directory / "facts")
        left = [os.pidfd_open(pid) for pid in tree(child.pid)]
        child.sendcontrol("c")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus not in (0, None), child.before
        for each in left:  # the plugin does not wait for the host
            assert select.select([each], [], [], 60)[0]
            os.close(each)
        os.close(fifo)

    exported = made.pulumi("stack", "export", "--stack", "lab").raw
    assert resources(exported) == resources(before)


def await_reader(fifo: Path) -> int:
    """Return a descriptor that keeps the reader of *fifo* waiting, once there is one."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        time.sleep(0.05)
    raise AssertionError("nothing reads the facts")


def resources(exported: str) -> list[tuple[str, object]]:
    """Return the name and the inputs of each resource in an exported state."""
    return [(each["urn"], each.get("inputs")) for each in json.loads(exported)["deployment"]["resources"]]

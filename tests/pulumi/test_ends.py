"""The ways in which `rackwright up` ends below a real pulumi: by signals to it, to pulumi and to the provider."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pulumi.test_plugin import OneHost, obey, plugin_of, project
from tests.support.processes import command_line, pulumis, tree
from tests.support.signals import as_in_a_terminal

__all__ = ["project"]
pytestmark = pytest.mark.pulumi
ALL = "RACKWRIGHT_TESTS_ALL_ENDS"
"""Variable with which all ends are tried, as the acceptance line does: each takes half a minute."""
UP = ("up", "lab", "--yes")
OWN_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?!.*pulumi-language-python-exec)")
"""A traceback of ours. A signal to the whole group also reaches pulumi's own program, which shows its own."""
LOOPBACK_DOWN = ("unshare", "--net", "--")


@dataclass
class Running:
    """A `rackwright up` whose step on the host hangs."""

    process: "subprocess.Popen[str]"
    let_go: threading.Event

    @property
    def pulumi(self) -> int:
        """The pulumi that changes the host."""
        [pulumi] = pulumis(self.process.pid)
        return pulumi

    @property
    def tree(self) -> list[int]:
        """Descriptors that become readable at the ends of all processes below the command, and of itself."""
        return [os.pidfd_open(pid) for pid in tree(self.process.pid)]

    def interrupt(self) -> None:
        """Press Ctrl-C: the terminal sends it to the whole group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=120)
        self.let_go.set()
        return self.process.returncode, output


def start(project: OneHost, *prefix: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*prefix, sys.executable, "-m", "tests.pulumi.command", *UP],
        cwd=project.directory,
        env=os.environ | project.environment | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=as_in_a_terminal,  # noqa: PLW1509 - it sets signals alone
    )


@pytest.fixture
def running(project: OneHost) -> Iterator[Running]:
    begun, let_go = threading.Event(), threading.Event()

    def hang(step: dict[str, Any]) -> None:
        begun.set()
        let_go.wait()

    project.host.on_step = hang
    started = Running(start(project), let_go)
    try:
        assert begun.wait(120), started.process.communicate(timeout=5)
        yield started
    finally:
        let_go.set()
        if started.process.poll() is None:
            os.killpg(started.process.pid, signal.SIGKILL)
            started.process.wait()


def once(running: Running) -> None:
    running.interrupt()


def twice(running: Running) -> None:
    running.interrupt()
    time.sleep(0.5)  # not within one call of the handler
    running.interrupt()


def kill_provider(running: Running) -> None:
    with os.fdopen(plugin_of(running.pulumi)) as plugin:
        signal.pidfd_send_signal(plugin.fileno(), signal.SIGKILL)
        assert select.select([plugin], [], [], 60)[0]


def kill_pulumi(running: Running) -> None:
    os.kill(running.pulumi, signal.SIGKILL)


def send_to_group(number: int) -> Callable[[Running], None]:
    """Return the end by `timeout`, or by a closed terminal, which reach the whole group."""
    return lambda running: os.killpg(running.process.pid, number)


def send(number: int) -> Callable[[Running], None]:
    return lambda running: running.process.send_signal(number)


ENDS = {
    "Ctrl-C": (once, 130, ""),
    "Ctrl-C twice": (twice, 130, ""),
    "SIGTERM": (send(signal.SIGTERM), 143, "ended by SIGTERM"),
    "SIGHUP": (send(signal.SIGHUP), 129, "ended by SIGHUP"),
    "SIGTERM to the group": (send_to_group(signal.SIGTERM), 143, "ended by SIGTERM"),
    "SIGHUP to the group": (send_to_group(signal.SIGHUP), 129, "ended by SIGHUP"),
    "SIGKILL": (send(signal.SIGKILL), -9, ""),
    "a killed provider": (kill_provider, 4, "rackwright's provider was killed while pulumi ran"),
    "a killed pulumi": (kill_pulumi, 4, "`pulumi up` was killed by SIGKILL"),
}


USUAL = ("Ctrl-C twice", "SIGHUP to the group", "SIGKILL", "a killed provider")


@pytest.mark.parametrize("way", ENDS if ALL in os.environ else USUAL)
def test_an_up_that_is_ended_has_the_status_of_its_end(running, way):
    check_end(running, way)


def check_end(running: Running, way: str) -> None:
    """Require that *running* ends by *way* with its status, its text and no traceback."""
    end, status, text = ENDS[way]
    left = running.tree
    end(running)
    ended, output = running.end()
    while left:  # no process outlives the command for long, and none waits for the end of the step
        over = select.select(left, [], [], 60)[0]
        assert over, [command_line(pid) for pid in tree(1) if "rackwright.provider" in str(command_line(pid))]
        left = [each for each in left if each not in over]
        for each in over:
            os.close(each)
    assert (ended, text in output) == (status, True), output
    # pulumi's own program may be waiting for the provider, and shows its own traceback
    if end is not kill_provider and status != -signal.SIGKILL:
        assert not OWN_TRACEBACK.search(output), output


def test_pulumi_and_its_lock_are_gone_after_an_interrupt(running, project):
    pulumi = running.pulumi
    running.interrupt()

    assert running.end()[0] == 130
    assert not Path(f"/proc/{pulumi}").exists()
    obey(project.host)
    again = start(project)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output


def test_a_refused_resource_is_no_killed_provider(project):
    project.host.set_facts({"identity": {"serial": "another"}})
    refused = start(project)

    output, _ = refused.communicate(timeout=120)
    assert refused.returncode in (2, 3) and "was killed" not in output, output


def test_without_loopback_the_error_is_printed_once_and_nothing_is_begun(project):
    alone = start(project, *LOOPBACK_DOWN)

    output, _ = alone.communicate(timeout=120)
    assert alone.returncode == 2, output
    assert (
        output.count("error:") == 1
        and "cannot connect to itself" in output
        and "Updating" not in output
        and "no resources" not in output
    ), output

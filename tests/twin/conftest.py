"""Machines and twins for the tests of this folder."""

import ctypes
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pynvml
import pytest

from rackwright.facts.probe import gpus
from rackwright.twin import Container, Twin, VirtualDrive, VirtualMachine, VirtualNic
from rackwright.twin.control import Control
from rackwright.twin.gpu import state
from rackwright.twin.layout import Layout
from tests.support.gpu_stand_in import MODELS, STRICT, Host, stand_in

MEGABYTE = 10**6


def machine(number: int, nvme: int = 2, sas: int = 2) -> VirtualMachine:
    """Return a small machine. All properties that differ between two machines depend on *number*."""
    drives = [VirtualDrive(f"T{number}-BOOT", "virtio", 4 << 30, boot=True)]
    drives += [VirtualDrive(f"T{number}-NVME{place}", "nvme", 256 * MEGABYTE) for place in range(nvme)]
    drives += [
        VirtualDrive(
            f"T{number}-SAS{place}", "sas", 256 * MEGABYTE, rotational=True, wwn=f"0x5000c500{number:04x}{place:04x}"
        )
        for place in range(sas)
    ]
    nics = (VirtualNic("rack0", f"52:54:00:01:00:{number:02x}", 9000),)
    return VirtualMachine(f"test-{number:02d}", f"CHASSIS-{number}", tuple(drives), nics)


def container(number: int) -> Container:
    """Return a container. All properties that differ between two containers depend on *number*."""
    nics = (VirtualNic("rack0", f"52:54:00:01:00:{number:02x}", 9000),)
    return Container(f"test-{number:02d}", f"CHASSIS-{number}", nics)


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """The directory of a twin. All processes that the test leaves running are ended."""
    layout = Layout(tmp_path)
    yield layout
    Control(layout).quit()


@dataclass(frozen=True)
class RunningTwin:
    """A running twin of two machines, with the messages of its start."""

    twin: Twin
    messages: list[str]
    host: str = "test-01"
    other: str = "test-02"

    def run(self, command: str, host: str = "test-01") -> str:
        """Return the output of *command* in *host*, which has to succeed."""
        done = subprocess.run(self.twin.ssh(host, command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def serials(self) -> set[str]:
        """Return the serial numbers of the drives that the guest sees."""
        return set(self.run("lsblk --nodeps --noheadings --output SERIAL").split())


OTHER = replace(machine(2, nvme=0, sas=0), gpus=("t4",))
"""The second machine of the running twin: without data drives, and with a GPU."""


@pytest.fixture(scope="module")
def running_twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningTwin]:
    """A twin of two machines, started once for all tests that boot."""
    messages: list[str] = []
    twin = Twin(tmp_path_factory.mktemp("twin"), [machine(1), OTHER])
    twin.start(messages.append)
    yield RunningTwin(twin, messages)
    twin.stop(messages.append, grace_seconds=0)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Return a function that waits until a condition holds, by default for at most two minutes."""

    def wait(holds: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def compiled_library() -> Iterator[Path]:
    with stand_in(*STRICT) as root:
        yield root


@pytest.fixture
def host(compiled_library: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with an A100 and a T4 and a freshly loaded driver."""
    host = Host(compiled_library)
    monkeypatch.setattr(gpus, "LIBRARY", str(host.library))
    host.install("535.261.03")
    host.state.write_text(state.text("alpha", MODELS))
    host.restart()
    gpus.read_nvml()
    return host


@pytest.fixture
def nvml(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """NVIDIA's own Python binding, which has opened the library."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(host.library)))
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlInit()
    yield pynvml
    pynvml.nvmlShutdown()

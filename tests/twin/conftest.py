"""Machines and twins for the tests of this folder."""

import ctypes
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    """Return a small machine; everything that has to differ between two of them follows from *number*."""
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
    """Return a container; everything that has to differ between two of them follows from *number*."""
    nics = (VirtualNic("rack0", f"52:54:00:01:00:{number:02x}", 9000),)
    return Container(f"test-{number:02d}", f"CHASSIS-{number}", nics)


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A directory for a twin; whatever the test has left running is ended."""
    layout = Layout(tmp_path)
    yield layout
    Control(layout).quit()


@dataclass(frozen=True)
class Booted:
    """A twin that runs, with one machine to look into and one beside it."""

    twin: Twin
    said: list[str]
    host: str = "test-01"
    other: str = "test-02"

    def run(self, command: str, host: str = "test-01") -> str:
        """Return what *command* prints in *host*; it has to end well."""
        done = subprocess.run(self.twin.ssh(host, command), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def serials(self) -> set[str]:
        """Return the serial numbers of the drives that the guest sees."""
        return set(self.run("lsblk --nodeps --noheadings --output SERIAL").split())


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Two machines, started once for all tests that boot."""
    said: list[str] = []
    twin = Twin(tmp_path_factory.mktemp("twin"), [machine(1), machine(2, nvme=0, sas=0)])
    twin.start(said.append)
    yield Booted(twin, said)
    twin.stop(said.append, grace_seconds=0)


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Return a function that waits until something holds, for at most two minutes, or as many seconds as it is told."""

    def wait(holds: Callable[[], bool], seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, "it never came true"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def compiled() -> Iterator[Path]:
    with stand_in(*STRICT) as root:
        yield root


@pytest.fixture
def host(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with an A100 and a T4, whose driver has just been loaded."""
    host = Host(compiled)
    monkeypatch.setattr(gpus, "LIBRARY", str(host.library))
    host.install("535.261.03")
    host.state.write_text(state.text("alpha", MODELS))
    host.restart()
    gpus.read_nvml()
    return host


@pytest.fixture
def nvml(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """NVIDIA's own binding, which has opened the library."""
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(host.library)))
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlInit()
    yield pynvml
    pynvml.nvmlShutdown()

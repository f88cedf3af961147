"""The interface of a backend, which makes hosts: `vm/` implements it with QEMU, `container/` with systemd-nspawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from rackwright.progress import Progress


@dataclass(frozen=True, slots=True)
class VirtualNic:
    """One network interface on the twin's switch."""

    name: str
    """The interface's name in the guest."""
    mac: str
    mtu: int = 1500


class Machine(Protocol):
    """A host of a twin as plain data, a frozen dataclass. A host whose new definition is equal needs no restart."""

    @property
    def backend(self) -> str:
        """Name of the backend: `vm` or `container`."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def serial(self) -> str:
        """Serial number of the chassis."""
        ...

    @property
    def nics(self) -> tuple[VirtualNic, ...]: ...

    @property
    def gpus(self) -> tuple[str, ...]:
        """Name of each GPU in the catalogue."""
        ...

    @property
    def driver(self) -> str:
        """Version of the declared driver of the GPUs, where the host cannot install it; empty otherwise."""
        ...

    @property
    def mirrors(self) -> tuple[str, ...]:
        """Package sources, as lines of sources.list(5)."""
        ...


M_contra = TypeVar("M_contra", bound=Machine, contravariant=True)


class Backend(Protocol[M_contra]):
    """The operations that make, start and stop hosts. Like `Twin`, a backend holds nothing but paths."""

    def require(self, machines: Sequence[M_contra]) -> None:
        """Raise an error when this computer cannot run the backend, or the backend cannot make one of *machines*."""
        ...

    def prepare(self, machines: Sequence[M_contra], progress: Progress) -> None:
        """Make the images and disks that *machines* need and do not have yet."""
        ...

    def helper_commands(self, machine: M_contra) -> Mapping[Path, list[str]]:
        """Return the commands of the processes that *machine* needs before its own, by the socket of each.

        Each process listens at its socket, and ends when the guest is off.
        """
        ...

    def command_line(self, machine: M_contra, port: int) -> list[str]:
        """Return the command of the process that is *machine*.

        The process ends when the guest is off, and the guest dies with the process.

        Args:
            port: Port on 127.0.0.1 that is forwarded to the guest's SSH server.
        """
        ...

    def is_powered(self, host: str, process: int) -> bool:
        """Return whether *process* has switched the guest on and opened its port."""
        ...

    def press_power_button(self, host: str) -> None:
        """Ask the guest to shut down. A second request does no harm."""
        ...

    def press_reset_button(self, host: str) -> None:
        """Stop the guest without a warning, and return when the guest starts again or is off."""
        ...

    def show_cables(self, machine: M_contra) -> None:
        """Pull all network cables of a running guest out, or put them back, as `Layout.no_cables` says."""
        ...

    def wait_until_gone(self, host: str) -> None:
        """Return when all processes and files in use of a guest, whose main process has ended, are gone."""
        ...

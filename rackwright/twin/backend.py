"""What the whole twin asks of a way to make hosts: `vm/` answers it with QEMU, `container/` with systemd-nspawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from rackwright.progress import Progress


@dataclass(frozen=True, slots=True)
class VirtualNic:
    """One network interface on the twin's switch."""

    name: str
    """As the guest calls it."""
    mac: str
    mtu: int = 1500


class Machine(Protocol):
    """A host of a twin as plain data: a frozen dataclass. Two that are equal need no restart."""

    @property
    def backend(self) -> str:
        """The way it is made: `vm` or `container`."""
        ...

    @property
    def name(self) -> str: ...

    @property
    def serial(self) -> str:
        """Of the chassis."""
        ...

    @property
    def nics(self) -> tuple[VirtualNic, ...]: ...

    @property
    def gpus(self) -> tuple[str, ...]:
        """The catalogue's name of each."""
        ...

    @property
    def mirrors(self) -> tuple[str, ...]:
        """Lines of sources.list(5): where it gets packages."""
        ...


M_contra = TypeVar("M_contra", bound=Machine, contravariant=True)


class Backend(Protocol[M_contra]):
    """One way to make hosts. Like the twin itself it holds nothing but paths."""

    def require(self, machines: Sequence[M_contra]) -> None:
        """Raise an error when this computer cannot run hosts of this sort, or one of *machines* cannot be one."""
        ...

    def prepare(self, machines: Sequence[M_contra], progress: Progress) -> None:
        """Make what *machines* start from and have not yet: image, disks."""
        ...

    def beside(self, machine: M_contra) -> Mapping[Path, list[str]]:
        """Return the processes that *machine* needs before its own, by the socket that each has to listen at.

        Each ends when the guest is off.
        """
        ...

    def command_line(self, machine: M_contra, port: int) -> list[str]:
        """Return the process that is *machine*: it ends when the guest is off, and the guest dies with it.

        Args:
            port: On 127.0.0.1, to be led to the guest's SSH server.
        """
        ...

    def is_powered(self, host: str, process: int) -> bool:
        """Return whether *process* has come as far as switching the guest on, its port with it."""
        ...

    def press_power_button(self, host: str) -> None:
        """Ask the guest to shut down; asking again does no harm."""
        ...

    def press_reset_button(self, host: str) -> None:
        """Stop the guest without a warning; return when it starts again, or is off."""
        ...

    def settle(self, host: str) -> None:
        """Return when nothing is left of a guest whose process has ended."""
        ...

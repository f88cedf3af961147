"""The virtual twin of a rack: the same hosts, serial numbers and NICs, on this computer.

Each exported name is imported at its first use. The small processes of a twin are modules of this package, too, and
dozens of them may run at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rackwright.twin.backend import VirtualNic
    from rackwright.twin.container.container import Container
    from rackwright.twin.twin import Twin
    from rackwright.twin.vm.machine import VirtualDrive, VirtualMachine

__all__ = ["Container", "Twin", "VirtualDrive", "VirtualMachine", "VirtualNic"]

_MODULES = {
    "Container": "container.container",
    "Twin": "twin",
    "VirtualDrive": "vm.machine",
    "VirtualMachine": "vm.machine",
    "VirtualNic": "backend",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

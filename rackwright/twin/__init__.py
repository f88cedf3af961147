"""The virtual twin of a rack: the same hosts, serial numbers and NICs, as virtual machines on this computer."""

from rackwright.twin.machine import VirtualDrive, VirtualMachine, VirtualNic
from rackwright.twin.twin import Twin

__all__ = ["Twin", "VirtualDrive", "VirtualMachine", "VirtualNic"]

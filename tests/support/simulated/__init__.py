"""Simulated hosts: a real sshd on an own loopback address each, that answers with given facts and records its steps."""

from tests.support.simulated.rack import SimulatedHost, SimulatedRack, pack

__all__ = ["SimulatedHost", "SimulatedRack", "pack"]

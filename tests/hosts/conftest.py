"""What the tests of apply share: a rack with simulated hosts and one real shell."""

from collections.abc import Iterator

import pytest

from rackwright.hosts.pool import Hosts
from tests.support.simulated import SimulatedRack

RAW = {"taken_at": 1.0, "drives": [], "arrays": []}


@pytest.fixture
def rack() -> Iterator[SimulatedRack]:
    """Two simulated hosts, and ``shell``, where commands run for real."""
    with SimulatedRack({"gpu-01": RAW, "gpu-02": RAW, "shell": None}) as rack:
        yield rack


@pytest.fixture
def hosts(rack: SimulatedRack) -> Iterator[Hosts]:
    hosts = Hosts(rack.endpoints, b"salt")
    yield hosts
    hosts.close()

"""Hosts as they are declared, and as their twins were found once everything was made."""

import copy
from typing import Any

import pytest

from rackwright.declaration import Declared
from rackwright.facts.facts import Facts
from rackwright.kinds.house import House
from tests.support.recorded_hosts import RESOURCES, STACK, recorded


@pytest.fixture
def house() -> House:
    return STACK.house


@pytest.fixture(params=RESOURCES.values(), ids=RESOURCES)
def declared(request) -> Declared:
    """Each resource of the rack."""
    return request.param


@pytest.fixture
def raw(declared) -> dict[str, Any]:
    """The recorded facts of its host, to be changed at will."""
    return recorded(declared.spec.host)


@pytest.fixture
def facts(raw) -> Facts:
    return Facts(copy.deepcopy(raw))

"""Hosts as they are declared, and as their twins were found once everything was made."""

import copy
from typing import Any

import pytest

from rackwright.core.repository import Repository
from rackwright.facts.facts import Facts
from rackwright.stack import DeclaredResource
from tests.support.recorded_hosts import AT_ENDPOINTS, RESOURCES, STACK, recorded


@pytest.fixture
def repository() -> Repository:
    return STACK.repository


@pytest.fixture(params=[*RESOURCES.values(), *AT_ENDPOINTS.values()], ids=[*RESOURCES, *AT_ENDPOINTS])
def declared(request) -> DeclaredResource:
    """Each resource of the rack, and each bucket."""
    return request.param


@pytest.fixture
def raw(declared) -> dict[str, Any]:
    """The recorded facts of its host or endpoint, to be changed at will."""
    return recorded(declared.source)


@pytest.fixture
def facts(raw) -> Facts:
    return Facts(copy.deepcopy(raw))

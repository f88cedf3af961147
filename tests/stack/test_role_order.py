"""The order of a host's roles: a role comes after those before it, also through roles that the host does not have."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from rackwright.fleet import load_fleet
from rackwright.stack.resources import declare_unchecked
from tests.support.recorded_hosts import STACK

DRIVER = {"nvidia_driver": {"source": "vendor", "version": "580"}}


@pytest.mark.parametrize(
    ("roles", "twin", "before"),
    [
        ({**DRIVER, "base": {}, "cuda": {"source": "vendor", "versions": ["12.8"]}}, None, {"nvidia_driver"}),
        ({**DRIVER, "base": {}, "cuda": {"versions": ["11.8"]}}, "lab", {"base"}),  # which leaves the driver out
    ],
)
def test_a_role_comes_after_what_is_before_a_role_that_is_not_there(
    tmp_path: Any, roles: Any, twin: str | None, before: set[str]
) -> None:
    """
    Without that, packages were installed before `base` had set their sources.
    """
    host = {"address": "192.0.2.1", "identity": {"serial": "S-1"}, "os": "debian-12", "roles": roles}
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump({"fleet": "small", "hosts": {"one": host}}))
    stack = replace(STACK, fleet=load_fleet(path, STACK.repository.roles), twin=twin)

    [cuda] = [each for each in declare_unchecked(stack) if each.name == "one/cuda"]

    assert {name for name in cuda.after if name != "one"} == {f"one/{role}" for role in before}

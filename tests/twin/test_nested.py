"""Containers in a container of a twin: their limits, and the GPUs that they see."""

import runpy
from typing import Any

import pytest

from rackwright.twin.container.container import NESTED
from rackwright.twin.gpu import plug, state

RUNC = runpy.run_path(str(NESTED / "runc"))


def adapted(controllers: list[str], *devices: str) -> dict[str, Any]:
    """Return the specification of a container with a limit and *devices*, as runc gets it."""
    linux = {"resources": {"memory": {"limit": 1}, "devices": [{"allow": False}]}}
    spec = {"linux": linux | {"devices": [{"path": path} for path in devices]}, "mounts": []}
    RUNC["adapt"](spec, controllers)
    return spec


@pytest.mark.parametrize(("controllers", "limited"), [([], False), (["cpu", "memory"], True)])
def test_limits_stay_where_controllers_enforce_them(controllers, limited):
    """
    Rules for devices need no controller.
    """
    resources = adapted(controllers)["linux"]["resources"]

    assert ("memory" in resources, "devices" in resources) == (limited, True)


def test_only_a_container_with_nodes_of_gpus_gets_what_the_kernel_would_answer():
    mounts = adapted([], "/dev/nvidia0", "/dev/nvidiactl")["mounts"]

    assert [mount["source"] for mount in mounts] == [state.PATH, "/run/rackwright-twin-gpu-driver"]
    assert all("ro" in mount["options"] for mount in mounts)
    assert adapted([], "/dev/fuse")["mounts"] == []


def test_each_gpu_has_a_node_with_a_number_of_its_own():
    lines = [line.split() for line in plug.nodes_text(2).splitlines()]
    numbers = {path: number for _, path, *_, number in lines}

    assert {*numbers} == {f"/dev/nvidia{name}" for name in ("0", "1", "ctl", "-uvm", "-uvm-tools")}
    assert len({*numbers.values()}) == 5
    assert {number.partition(":")[0] for number in numbers.values()} == {"120"}

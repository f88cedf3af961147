"""The role node_exporter: what it refuses, and what it starts the exporter with."""

from typing import Any

import pytest

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["node_exporter"]


def started(**variables: Any) -> str:
    """Return the arguments that the exporter is started with."""
    spec = RoleSpec(
        host="alpha",
        role="node_exporter",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=variables,
    )
    [unit] = promises(spec, REPOSITORY).files
    [line] = [line for line in str(unit.content).splitlines() if line.startswith("ExecStart=")]
    return line.partition(" ")[2]


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "--web.listen-address=127.0.0.1:9100"),
        ({"address": "10.0.0.1", "port": 9200}, "--web.listen-address=10.0.0.1:9200"),
        ({"address": "fd00::1"}, "--web.listen-address=[fd00::1]:9100"),
        (
            {"collectors": {"wifi": False, "processes": True}},
            "--web.listen-address=127.0.0.1:9100 --collector.processes --no-collector.wifi",
        ),
    ],
)
def test_it_serves_at_its_port_and_measures_as_asked(variables, wanted):
    assert started(**variables) == wanted


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"port": 80}, "port: got 80; without root, a port is 1024 to 65535"),
        ({"collectors": {"wifi": "no"}}, 'collectors: got wifi: "no"; a collector is one'),
        ({"collectors": {"x --path.rootfs": True}}, "collectors: got x --path.rootfs: true; a collector is one"),
    ],
)
def test_what_cannot_be_is_refused(variables, wanted):
    assert list(SOURCE.problems("debian-12", variables)) == [], "each is of its type"
    [problem] = refusals(SOURCE, "debian-12", variables)

    assert f"{'.'.join(map(str, problem.path))}: {problem}".startswith(wanted)

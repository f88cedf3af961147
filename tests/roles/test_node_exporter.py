"""The role node_exporter: what it refuses, and what it starts the exporter with."""

from typing import Any

import pytest

from rackwright.core.diff import diff
from rackwright.facts.facts import Facts
from rackwright.facts.probe import system
from rackwright.kinds.role import RoleKind
from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.refusals import refusals
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from tests.support.our_roles import REPOSITORY, ROLES

SOURCE = ROLES["node_exporter"]


def spec(**variables: Any) -> RoleSpec:
    return RoleSpec(
        host="alpha",
        role="node_exporter",
        identity={"serial": "S1"},
        about=AboutHost(name="alpha", os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=variables,
    )


def started(**variables: Any) -> str:
    """Return the arguments that the exporter is started with."""
    [unit] = [file for file in promises(spec(**variables), REPOSITORY).files if file.file.endswith(".service")]
    [line] = [line for line in str(unit.content).splitlines() if line.startswith("ExecStart=")]
    return line.partition(" ")[2]


TEXTFILES = "--collector.textfile.directory=/var/lib/prometheus/node-exporter"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "--web.listen-address=127.0.0.1:9100"),
        ({"address": "10.0.0.1", "port": 9200}, "--web.listen-address=10.0.0.1:9200"),
        ({"address": "fd00::1"}, "--web.listen-address=[fd00::1]:9100"),
        ({"socket": "/run/rackwright-node-exporter.sock"}, "--web.systemd-socket"),
        (
            {"collectors": {"wifi": False, "processes": True}},
            "--web.listen-address=127.0.0.1:9100 --collector.processes --no-collector.wifi",
        ),
    ],
)
def test_it_serves_at_its_port_and_measures_as_asked(variables, wanted):
    address, *collectors = wanted.split()
    assert started(**variables).split() == [address, TEXTFILES, *collectors]


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"port": 80}, "port: got 80; without root, a port is 1024 to 65535"),
        ({"socket": "/tmp/x.sock"}, 'socket: got "/tmp/x.sock"; a Unix socket is directly below /run'),
        ({"socket": "/run/x/y.sock"}, 'socket: got "/run/x/y.sock"; a Unix socket is directly below /run'),
        ({"collectors": {"wifi": "no"}}, 'collectors: got wifi: "no"; a collector is one'),
        ({"textfiles": ["../x.prom"]}, 'textfiles: got "../x.prom"; the exporter reads files'),
        ({"textfiles": ["smart"]}, 'textfiles: got "smart"; the exporter reads files'),
        ({"textfiles": ["a|b.prom"]}, 'textfiles: got "a|b.prom"; the exporter reads files'),
        ({"collectors": {"x --path.rootfs": True}}, "collectors: got x --path.rootfs: true; a collector is one"),
    ],
)
def test_what_cannot_be_is_refused(variables, wanted):
    assert list(SOURCE.problems("debian-12", variables)) == [], "each is of its type"
    [problem] = refusals(SOURCE, "debian-12", variables)

    assert f"{'.'.join(map(str, problem.path))}: {problem}".startswith(wanted)


def test_a_file_of_metrics_that_no_role_declares_is_a_difference(tmp_path):
    """
    A file there served metrics under the name of the host, and no audit saw it.
    """
    path = "/var/lib/prometheus/node-exporter"
    place = tmp_path / path[1:]
    place.mkdir(parents=True)
    place.chmod(0o755)
    [claim] = [each for each in RoleKind().claims(spec(textfiles=["smart.prom"]), REPOSITORY) if path in each.thing]

    def differing() -> set[str]:
        files, directories = system.tree(str(tmp_path), b"salt")
        raw = {"files": files, "directories": directories, "covers": {"files": list(system.COVERED)}}
        return {each.name for each in diff([claim], RoleKind().observe([claim], Facts(raw)))}

    for name in ("smart.prom", "smart.prom.1234", "notes"):
        (place / name).write_text("node_load1 0\n")
    assert differing() == set(), "the exporter reads .prom alone"
    (place / "odd.prom").write_text("node_load1 0\n")
    assert differing() == {"prom_names"}
    (place / "odd.prom").unlink()
    place.chmod(0o777)
    assert differing() == {"mode"}


def test_with_a_socket_root_alone_can_be_the_exporter():
    """
    Any account may take a free port of loopback, and the proxy served its answers as the metrics of the host.
    """
    made = promises(spec(socket="/run/rackwright-node-exporter.sock"), REPOSITORY)
    [text] = [str(file.content) for file in made.files if file.file.endswith(".socket")]

    assert {"ListenStream=/run/rackwright-node-exporter.sock", "SocketUser=root", "SocketMode=0660"} <= {
        *text.splitlines()
    }
    things = {entry.thing for entry in made.entries}
    assert "unit:rackwright-node-exporter.socket" in things and not any(each.startswith("socket:") for each in things)
    assert "unit:rackwright-node-exporter.socket" not in {each.thing for each in promises(spec(), REPOSITORY).entries}

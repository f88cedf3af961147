"""Containers as plain data, and what is refused before any is started."""

import copy
import json
import os
import socket
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rackwright.errors import DeclarationError, SetupError
from rackwright.schema import Fleet
from rackwright.twin import Container, Twin, VirtualMachine, VirtualNic, faults
from rackwright.twin.container import chassis
from rackwright.twin.container.backend import Containers
from rackwright.twin.container.cable import EventLoop
from rackwright.twin.container.container import bind_options, cgroup, check, command_line
from rackwright.twin.control import Control
from rackwright.twin.fleet import build_twin
from rackwright.twin.layout import Layout
from tests.twin.conftest import container, machine

LAYOUT = Layout(Path("/twins/a,b"))
FLEET = {
    "fleet": "example",
    "hosts": {
        name: {
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"CHASSIS-{number}"},
            "os": "debian-12",
            "nics": [{"name": "fabric0", "mac": f"52:54:00:00:00:0{number}", "mtu": 9000}],
        }
        for number, name in enumerate(("alpha", "beta"), start=1)
    },
}


def told(of: Container) -> dict:
    return json.loads(command_line(of, LAYOUT, Path("/system"), 2222)[-1])


def test_the_chassis_is_told_port_nics_and_what_to_start():
    """
    Names, addresses and sizes of the NICs are the declared ones; the container's files are the twin's.
    """
    said = told(container(1))

    assert (said["port"], said["nics"]) == (2222, [{"name": "rack0", "mac": "52:54:00:01:00:01", "mtu": 9000}])
    assert said["start"][2:] == [
        "test-01",
        "/twins/a,b/disks/test-01/root",
        "/system",
        "/twins/a,b/hosts/test-01/seed.tar",
        said["cgroup"],
    ]


def test_two_containers_never_share_a_control_group():
    """
    Neither two of one twin, nor two of one name in two twins.
    """
    other = Layout(Path("/twins/other"))

    assert len({cgroup(LAYOUT, "a"), cgroup(LAYOUT, "b"), cgroup(other, "a")}) == 3


@pytest.mark.parametrize("name", ["sixteen-letters0", "", "a b", "a/b", "lo"])
def test_a_nic_that_the_kernel_cannot_name_is_refused(name):
    """
    The message says how long a name may be.
    """
    odd = replace(container(1), nics=(VirtualNic(name, "52:54:00:01:00:01"),))

    with pytest.raises(DeclarationError, match="at most 15 printable"):
        check(odd)


def test_the_fleet_is_the_same_whatever_makes_its_hosts(tmp_path):
    """
    Names, chassis and NICs are declared once; the setting only chooses the backend.
    """
    fleet = Fleet.model_validate(FLEET)
    one, other = build_twin("t", tmp_path, fleet, {"beta"}).machines.values()

    assert (type(one), type(other)) == (VirtualMachine, Container)
    assert asdict(other) == {
        "name": "beta",
        "serial": "CHASSIS-2",
        "nics": ({"name": "fabric0", "mac": "52:54:00:00:00:02", "mtu": 9000},),
        "os": "debian-12",
        "gpus": (),
        "mirrors": (),
        "provided": (),
        "workloads": "",
    }


def test_hosts_are_lent_mirrors_only_where_the_stack_says_so(tmp_path, monkeypatch):
    """
    And a container is led to each by a door of its own, under the mirror's name.
    """
    sources = ("deb [a=b] http://one.example/debian bookworm main", "deb [a=b] https://two.example:8443/ bookworm main")
    monkeypatch.setattr("rackwright.twin.mirrors.source_lines", lambda os_name: sources)
    fleet = Fleet.model_validate(FLEET)
    lent = build_twin("t", tmp_path, fleet, {"beta"}, lends_mirrors=True).machines

    assert {host.mirrors for host in lent.values()} == {sources}
    assert told(lent["beta"])["mirrors"] == [
        {"address": "127.0.2.1", "port": 80, "host": "one.example"},
        {"address": "127.0.2.2", "port": 8443, "host": "two.example"},
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root enters namespaces")
def test_a_door_leads_to_the_mirror_outside():
    """
    Whoever comes to it hears what the mirror says; one that leads nowhere breaks the line, and serves the next.
    """
    loop, lines = EventLoop(), []
    with socket.create_server(("127.0.0.1", 0)) as mirror, Path("/proc/self/ns/net").open() as network:
        port = mirror.getsockname()[1]
        for host, hears in (("nowhere.invalid", b""), ("127.0.0.1", b"packages")):
            door = chassis._listen_for_mirror(
                loop, {"address": "127.0.2.1", "port": port, "host": host}, network.fileno(), lines
            )
            with socket.create_connection(("127.0.2.1", port)) as guest:
                loop.run_once()
                if hears:
                    reached, _ = mirror.accept()
                    reached.sendall(hears)
                    loop.run_once()
                    reached.close()
                assert guest.recv(100) == hears
            for line in lines:
                line.close()
            loop.set(door, 0, lambda events: None)
            door.close()
    loop.close()


def test_a_port_that_is_declared_by_its_place_has_an_address_of_its_own(tmp_path):
    """
    The same at each start, and another than that of any other port.
    """
    raw = json.loads(json.dumps(FLEET))
    for name, host in raw["hosts"].items():
        host["nics"] = [{"name": f"fabric{port}", "pci": f"3b:00.{port}"} for port in range(2)]
        host["identity"] = {"serial": name}
    fleet = Fleet.model_validate(raw)
    first, again = (
        [nic.mac for host in build_twin("t", tmp_path, fleet, {"beta"}).machines.values() for nic in host.nics]
        for _ in range(2)
    )

    assert first == again and len({*first}) == 4


def test_status_says_what_a_host_is_made_by(tmp_path):
    """
    Before the first start, too.
    """
    seen = Twin(tmp_path, [machine(1), container(2)]).status()

    assert [(status.backend, status.power) for status in seen] == [("vm", False), ("container", False)]


@pytest.mark.parametrize("fault", [faults.pull, faults.insert])
def test_a_drive_of_a_container_is_refused_by_name(tmp_path, fault):
    """
    It has none; what it shows are this computer's.
    """
    with pytest.raises(DeclarationError, match="test-02: got a container.* drives of its own.*rackwright:containers"):
        fault(Twin(tmp_path, [container(2)]), "test-02", "ANY")


def test_without_root_a_container_is_refused(layout, monkeypatch):
    """
    The message names the hosts, says what is wanted, and the way out.
    """
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(
        SetupError, match="test-01, test-02: user 1000 may not .* Run the command as root, or take the hosts out"
    ):
        Containers(layout, Control(layout)).require([container(1), container(2)])


def test_more_containers_than_the_kernel_lets_run_are_refused(layout, monkeypatch, tmp_path):
    """
    Their systemd would end at its first step, one by one; the message is the command that helps.
    """
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("rackwright.twin.container.backend._INOTIFY", tmp_path / "max_user_instances")
    monkeypatch.setattr("rackwright.twin.container.backend.require", lambda *programs: None)
    (tmp_path / "max_user_instances").write_text("128\n")
    backend, many = Containers(layout, Control(layout)), [replace(container(n), nics=()) for n in range(33)]

    backend.require(many[:32])
    with pytest.raises(SetupError, match="33 containers: .* allows 128 .*fs.inotify.max_user_instances=264"):
        backend.require(many)


def test_a_kernel_without_tap_devices_is_refused_where_there_are_nics(layout, monkeypatch, tmp_path):
    """
    A container without NICs needs none.
    """
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("rackwright.twin.container.backend._TUN", tmp_path / "tun")
    monkeypatch.setattr("rackwright.twin.container.backend.require", lambda *programs: None)
    backend = Containers(layout, Control(layout))

    backend.require([replace(container(1), nics=())])
    with pytest.raises(SetupError, match="no .*/tun; the NICs of a container are TAP devices"):
        backend.require([container(1)])


def test_a_tier_that_somebody_provides_is_a_directory_of_this_computer(tmp_path):
    """
    And so is what it is lent to import; a virtual machine has no such door.
    """
    raw = copy.deepcopy(FLEET)
    raw["hosts"]["beta"]["tiers"] = {"warm": {"provided": True, "mount": "/srv/warm"}}
    fleet, layout = Fleet.model_validate(raw), Layout(tmp_path / ".rackwright/twins/t")
    beta = build_twin("t", tmp_path, fleet, {"beta"}, workloads=Path("/cache/a:b")).machines["beta"]

    assert bind_options(beta, layout) == [
        f"--bind={layout.disks}/beta/provided/srv-warm:/srv/warm",
        f"--bind-ro={layout.host('beta')}/environment:/opt/workloads",
        "--bind-ro=/cache/a\\:b/lib/python3.11/site-packages:/opt/workloads/lib/python3.11/site-packages",
    ]
    with pytest.raises(DeclarationError, match=r"beta: tier warm: got provided: true"):
        build_twin("t", tmp_path, fleet)

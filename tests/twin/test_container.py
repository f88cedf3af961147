"""Containers as plain data, and the errors before any container starts."""

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
from rackwright.twin.container.container import LINKS, NESTED, cgroup, check, command_line, nspawn_options
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


def chassis_config(machine: Container) -> dict:
    return json.loads(command_line(machine, LAYOUT, Path("/system"), 2222)[-1])


def test_the_chassis_gets_port_nics_and_start_command():
    """
    The names, addresses and MTUs of the NICs are the declared ones; the files are those of the twin.
    """
    config = chassis_config(container(1))

    assert (config["port"], config["nics"]) == (2222, [{"name": "rack0", "mac": "52:54:00:01:00:01", "mtu": 9000}])
    assert config["start"][2:] == [
        "test-01",
        "/twins/a,b/disks/test-01/root",
        "/system",
        "/twins/a,b/hosts/test-01/seed.tar",
        config["cgroup"],
    ]


def test_two_containers_never_share_a_control_group():
    """
    The names differ for two containers of one twin, and for two of one name in two twins.
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


def test_both_backends_make_the_same_hosts(tmp_path):
    """
    The fleet declares names, chassis and NICs; the setting only chooses the backend.
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
        "driver": "",
        "mirrors": (),
        "provided": (),
        "workloads": "",
        "nests": False,
        "links": (),
    }


def test_hosts_know_the_driver_that_is_left_out(tmp_path):
    raw = copy.deepcopy(FLEET)
    raw["hosts"]["alpha"]["roles"] = {"nvidia_driver": {"source": "vendor", "version": "580"}}
    raw["hosts"]["beta"]["roles"] = {"nvidia_driver": {"version": "535"}}
    machines = build_twin("t", tmp_path, Fleet.model_validate(raw), {"beta"}).machines

    assert [machine.driver for machine in machines.values()] == ["580", ""]


def test_hosts_get_mirrors_only_if_the_stack_lends_them(tmp_path, monkeypatch):
    """
    A container reaches each mirror under the mirror's name, by a proxy of its own.
    """
    sources = ("deb [a=b] http://one.example/debian bookworm main", "deb [a=b] https://two.example:8443/ bookworm main")
    monkeypatch.setattr("rackwright.twin.mirrors.source_lines", lambda os_name: sources)
    fleet = Fleet.model_validate(FLEET)
    lent = build_twin("t", tmp_path, fleet, {"beta"}, lends_mirrors=True).machines

    assert {host.mirrors for host in lent.values()} == {sources}
    assert chassis_config(lent["beta"])["mirrors"] == [
        {"address": "127.0.2.1", "port": 80, "host": "one.example"},
        {"address": "127.0.2.2", "port": 8443, "host": "two.example"},
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root enters namespaces")
def test_a_mirror_proxy_relays_to_the_mirror_outside():
    """
    A client receives the mirror's data. A mirror that does not exist closes the connection, and the proxy continues.
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


def test_a_nic_declared_by_pci_address_gets_a_stable_mac(tmp_path):
    """
    The address is the same at each start, and differs from that of each other port.
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


def test_status_shows_the_backend_of_each_host(tmp_path):
    """
    The backend is also shown before the first start.
    """
    rows = Twin(tmp_path, [machine(1), container(2)]).status()

    assert [(status.backend, status.power) for status in rows] == [("vm", False), ("container", False)]


@pytest.mark.parametrize("fault", [faults.pull, faults.insert])
def test_a_drive_fault_of_a_container_is_an_error(tmp_path, fault):
    """
    A container has no drives; those in it are this computer's.
    """
    with pytest.raises(
        DeclarationError, match="test-02: the host is a container.* drives of its own.*rackwright:containers"
    ):
        fault(Twin(tmp_path, [container(2)]), "test-02", "ANY")


def test_without_root_a_container_is_refused(layout, monkeypatch):
    """
    The message names the hosts, the requirement and the fix.
    """
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(
        SetupError, match="test-01, test-02: user 1000 may not .* Run the command as root, or remove the hosts"
    ):
        Containers(layout, Control(layout)).require([container(1), container(2)])


def test_more_containers_than_the_kernel_allows_are_refused(layout, monkeypatch, tmp_path):
    """
    The systemd of a further container would fail at its start; the message has the command that raises the limit.
    """
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("rackwright.twin.container.backend._INOTIFY", tmp_path / "max_user_instances")
    monkeypatch.setattr("rackwright.twin.container.backend.require", lambda *programs: None)
    (tmp_path / "max_user_instances").write_text("128\n")
    backend, many = Containers(layout, Control(layout)), [replace(container(n), nics=()) for n in range(33)]

    backend.require(many[:32])
    with pytest.raises(SetupError, match="33 containers: .* allows a user 128 .*fs.inotify.max_user_instances=264"):
        backend.require(many)
    nodes = [replace(each, nests=True) for each in many[:7]]
    backend.require(nodes[:6])
    with pytest.raises(SetupError, match="7 containers: .* allows a user 128 .*fs.inotify.max_user_instances=280"):
        backend.require(nodes)


def test_a_container_with_nics_needs_tap_devices(layout, monkeypatch, tmp_path):
    """
    A container without NICs needs no TAP devices.
    """
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("rackwright.twin.container.backend._TUN", tmp_path / "tun")
    monkeypatch.setattr("rackwright.twin.container.backend.require", lambda *programs: None)
    backend = Containers(layout, Control(layout))

    backend.require([replace(container(1), nics=())])
    with pytest.raises(SetupError, match="no .*/tun; the NICs of a container are TAP devices"):
        backend.require([container(1)])


def test_a_bond_that_this_kernel_does_not_make_is_refused_before_the_start(layout, monkeypatch):
    """
    The container would start, and its network would end with an error of netplan.
    """
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("rackwright.twin.container.backend.require", lambda *programs: None)
    backend, bonded = Containers(layout, Control(layout)), replace(container(1), nics=(), links=("bond",))

    monkeypatch.setitem(LINKS, "bond", ("bonding", "true"))
    backend.require([bonded])
    monkeypatch.setitem(LINKS, "bond", ("bonding", "false"))
    backend.require([replace(bonded, links=())])
    for has_module, help in ((True, "Run `sudo modprobe bonding`, or remove "), (False, "no module bonding")):
        monkeypatch.setattr("rackwright.twin.container.backend._has_module", lambda module, found=has_module: found)
        with pytest.raises(SetupError, match=f"makes no link of type bond.*{help}"):
            backend.require([bonded])


def test_the_links_of_a_declared_network_are_those_that_its_kernel_has_to_make(tmp_path):
    raw = copy.deepcopy(FLEET)
    raw["hosts"]["beta"] |= {
        "nics": [{"name": name, "mac": f"52:54:00:00:00:0{number}"} for number, name in enumerate(("p0", "p1"), 1)],
        "network": {"bonds": {"both": {"mode": "802.3ad", "members": ["p0", "p1"], "addresses": ["10.9.0.1/24"]}}},
    }
    beta = build_twin("lab", tmp_path, Fleet.model_validate(raw), ["beta"]).machines["beta"]
    assert isinstance(beta, Container) and beta.links == ("bond",)


def test_a_provided_tier_is_a_directory_of_this_computer(tmp_path):
    """
    The lent packages are mounted, too. A virtual machine cannot have a provided tier.
    """
    raw = copy.deepcopy(FLEET)
    raw["hosts"]["beta"]["tiers"] = {"warm": {"provided": True, "mount": "/srv/warm"}}
    fleet, layout = Fleet.model_validate(raw), Layout(tmp_path / ".rackwright/twins/t")
    beta = build_twin("t", tmp_path, fleet, {"beta"}, workloads=Path("/cache/a:b")).machines["beta"]

    assert nspawn_options(beta, layout) == [
        f"--bind={layout.disks}/beta/provided/srv-warm:/srv/warm",
        f"--bind-ro={layout.host('beta')}/environment:/opt/workloads",
        "--bind-ro=/cache/a\\:b/lib/python3.11/site-packages:/opt/workloads/lib/python3.11/site-packages",
    ]
    with pytest.raises(DeclarationError, match=r"beta: tier warm: a virtual machine cannot have a provided tier"):
        build_twin("t", tmp_path, fleet)


def test_lent_packages_are_one_mount_on_a_node_of_kubernetes(tmp_path):
    """
    A volume of a pod is a bind of one path, without the mounts below it.
    """
    raw = copy.deepcopy(FLEET)
    raw["hosts"]["beta"]["roles"] = {"kubernetes_node": {}}
    layout = Layout(tmp_path / ".rackwright/twins/t")
    machines = build_twin("t", tmp_path, Fleet.model_validate(raw), {"beta"}, workloads=Path("/cache/a:b")).machines

    mounts = [option for option in nspawn_options(machines["beta"], layout) if "/opt/workloads" in option]

    assert mounts == [f"--overlay-ro=/cache/a\\:b:{layout.host('beta')}/environment:/opt/workloads"]


def test_a_node_of_kubernetes_starts_containers_of_its_own(tmp_path):
    """
    Their data is in real directories, since no overlay stands on an overlay; other containers have no more rights.
    """
    raw = copy.deepcopy(FLEET)
    raw["hosts"]["beta"]["roles"] = {"kubernetes_node": {}}
    layout = Layout(tmp_path / ".rackwright/twins/t")
    machines = build_twin("t", tmp_path, Fleet.model_validate(raw), {"alpha", "beta"}).machines

    assert nspawn_options(machines["beta"], layout) == [
        "--capability=all",
        "--system-call-filter=@keyring",
        "--system-call-filter=bpf",
        f"--bind={layout.disks}/beta/nested/containerd:/var/lib/containerd",
        f"--bind={layout.disks}/beta/nested/kubelet:/var/lib/kubelet",
        f"--bind-ro={NESTED}/containerd.conf:/usr/lib/systemd/system/containerd.service.d/twin.conf",
        f"--bind-ro={NESTED}/kubelet.conf:/usr/lib/systemd/system/kubelet.service.d/twin.conf",
        f"--bind-ro={NESTED}:/run/twin/nested",
    ]
    assert nspawn_options(machines["alpha"], layout) == []

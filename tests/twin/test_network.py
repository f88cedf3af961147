"""A host's network on the twin: the declared state is set up, or the host undoes the change by itself."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import LogIn, Plan
from rackwright.core.repository import Repository
from rackwright.core.scope import rehearsable_claims
from rackwright.errors import StepFailed
from rackwright.hosts.pool import Hosts
from rackwright.hosts.steps import execute
from rackwright.schema import Fleet
from rackwright.schema.ssh import Endpoint, Login
from rackwright.stack import Stack, declare
from rackwright.twin import Twin
from rackwright.twin.fleet import build_twin

pytestmark = pytest.mark.twin
Eventually = Callable[[Callable[[], bool]], None]
ROOT = Path(__file__).parents[2]
SALT = b"recorded"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start containers")


class Rack:
    """A fleet on its twin, with the operations of a provider on the resources of its hosts, for example the network."""

    def __init__(self, directory: Path, fleet: dict[str, Any], containers: set[str]) -> None:
        self.raw, self.containers = fleet, frozenset(containers)
        self.twin: Twin = build_twin("network", directory, Fleet.model_validate(fleet), containers)
        self.repository = Repository.load(ROOT, SALT)

    def start(self) -> None:
        self.twin.start(print)
        entries = json.loads((self.twin.layout.directory / "endpoints.json").read_text())["hosts"]
        self.pins = self.twin.layout.directory / "known_hosts"
        self.endpoints = {name: self._endpoint(name, entry) for name, entry in entries.items()}
        self.hosts = Hosts(self.endpoints, SALT)

    def stop(self) -> None:
        self.hosts.close()
        self.twin.stop(print, grace_seconds=0)

    def _endpoint(self, name: str, entry: dict[str, Any]) -> Endpoint:
        login = Login(name="twin", user=entry["user"], key=entry["key"])
        return Endpoint(name, entry["address"], entry["port"], (login,), self.pins)

    def run(self, host: str, command: str) -> str:
        done = subprocess.run(
            self.twin.ssh(host, "sudo -n sh -e -s"), input=command, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def boot(self, host: str) -> str:
        """Return the boot id of *host*, or an empty text while the host does not answer."""
        argv = [*self.twin.ssh(host)[:-1], "-o", "ConnectTimeout=5", self.twin.ssh(host)[-1]]
        done = subprocess.run([*argv, "cat /proc/sys/kernel/random/boot_id"], capture_output=True, text=True)
        return done.stdout.strip()

    @property
    def stack(self) -> Stack:
        fleet = Fleet.model_validate(self.raw)
        return Stack("network", ROOT, fleet, {}, self.repository, SALT, "network", self.containers)

    def observe(self, host: str, resource: str = "network") -> tuple[set[str], Plan]:
        """Return the paths that differ or are unknown, and the plan that corrects them."""
        declared = next(one for one in declare(self.stack) if one.name == f"{host}/{resource}")
        kind, spec = declared.kind, declared.spec
        claims = rehearsable_claims(kind.claims(spec, self.repository), spec)
        facts = self.hosts.facts(host, fresh=True)
        differences = comparison.diff(claims, kind.observe(claims, facts))
        return {item.path for item in differences}, kind.plan(spec, differences, facts, self.repository)

    def start_change(self, host: str) -> None:
        """Change the network without a confirmation, so that the host's timer would undo the change."""
        with self.hosts.lease(host, f"{host}/network", print):
            _, plan = self.observe(host)
            confirmed = next(index for index, step in enumerate(plan.steps) if isinstance(step, LogIn))
            execute(self.hosts, host, f"{host}/network", plan.steps[:confirmed], print)

    def up(self, host: str, resource: str = "network") -> None:
        """Apply the declaration; no difference may remain."""
        with self.hosts.lease(host, f"{host}/{resource}", print):
            _, plan = self.observe(host, resource)
            assert not plan.refusals, plan.refusals
            execute(self.hosts, host, f"{host}/{resource}", plan.steps, print)
        assert self.observe(host, resource)[0] == set()


def fleet(hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a fleet of *hosts*, with the required fields of each."""
    common = {"os": "debian-12"}
    return {
        "fleet": "wired",
        "hosts": {
            name: {**common, "address": f"192.0.2.{number}", "identity": {"serial": f"S-{name}"}, **host}
            for number, (name, host) in enumerate(hosts.items(), start=1)
        },
    }


def nic(number: int, port: int, **more: Any) -> dict[str, Any]:
    return {"name": f"fabric{port}", "mac": f"52:54:00:03:{number:02x}:{port:02x}", **more}


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """Two containers: alpha is reached by its management address, beta only over its fabric."""
    alpha = {
        "nics": [nic(1, 0, mtu=9000, addresses=["10.30.0.11/24", "2001:db8:30::11/64"]), nic(1, 1)],
        "network": {
            "routes": [{"to": "198.51.100.0/24", "via": "10.30.0.1"}],
            "dns": {"addresses": ["192.0.2.53", "192.0.2.54"], "search": ["rack.example"]},
        },
    }
    beta = {"nics": [nic(2, 0, addresses=["10.30.0.12/24"])], "network": {"confirm_seconds": 30}}
    # a port of the twin that is not in the declared network below
    stray = {**alpha, "nics": [*alpha["nics"], {"name": "office", "mac": "52:54:00:03:01:99"}]}
    rack = Rack(tmp_path_factory.mktemp("wired"), fleet({"alpha": stray, "beta": beta}), {"alpha", "beta"})
    rack.start()
    rack.raw = fleet({"alpha": alpha, "beta": beta})
    yield rack
    rack.stop()


OFFICE = "ip link set office up; ip address replace 10.99.0.1/24 dev office"
OFFICE_STATE = "ip -br address show dev office; ip route show dev office; cat /sys/class/net/office/mtu"


@ROOT_ONLY
def test_the_declared_network_is_set_up_and_other_ports_stay(rack: Rack) -> None:
    """
    The host gets addresses of both families, MTU, route and name servers; the undeclared port keeps its state.
    """
    before = rack.run("alpha", f"{OFFICE}\n{OFFICE_STATE}")

    rack.up("alpha")

    assert rack.run("alpha", OFFICE_STATE) == before
    assert "10.30.0.11/24" in rack.run("alpha", "ip -br address show dev fabric0")
    assert rack.run("alpha", "ip route show 198.51.100.0/24").startswith("198.51.100.0/24 via 10.30.0.1 dev fabric0")
    assert "nameserver 192.0.2.54" in rack.run("alpha", "cat /etc/resolv.conf")
    assert "NCCL_SOCKET_IFNAME==fabric0" in rack.run("alpha", "cat /etc/rackwright/network.env").splitlines()
    assert rack.run("alpha", "stat -c %a /etc/netplan/60-rackwright.yaml") == "600"
    assert rack.observe("alpha")[1] == Plan()


BROKEN = {
    "link:fabric0.mtu": "ip link set dev fabric0 mtu 1500",
    "link:fabric0.addresses": "ip address add 10.30.0.99/24 dev fabric0",
    "link:fabric1.up": "ip link set dev fabric1 down",
    "route:198.51.100.0/24.via": "ip route replace 198.51.100.0/24 via 10.30.0.2 dev fabric0",
    "resolvers:alpha.servers": "sed -i s/192.0.2.53/192.0.2.99/ /etc/resolv.conf",
    "file:/etc/resolv.conf.content": "true",
    "file:/etc/netplan/60-rackwright.yaml.mode": "chmod 644 /etc/netplan/60-rackwright.yaml",
    "file:/etc/rackwright/network.env.content": "echo GLOO_SOCKET_IFNAME=lo >> /etc/rackwright/network.env",
    "file:/etc/systemd/network/05-rackwright-fabric1.link.owner": "chown games /etc/systemd/network/*fabric1.link",
}
"""Commands that change the network by hand, by the path that then differs."""


@ROOT_ONLY
def test_each_change_by_hand_is_reported_and_corrected(rack: Rack) -> None:
    """
    All changes are made at once, and no other path differs.
    """
    rack.up("alpha")
    rack.run("alpha", "\n".join(BROKEN.values()))
    assert rack.observe("alpha")[0] == {*BROKEN}

    rack.up("alpha")


@ROOT_ONLY
def test_an_unconfirmed_change_is_undone_completely(rack: Rack) -> None:
    """
    No new login confirms the change, and the timer fires at once: the whole state is as before.
    """
    rack.up("alpha")
    commands = "cat /etc/netplan/* /etc/resolv.conf; ls /etc/systemd/network; ip -br address | sort; ip route; ip link"
    before = rack.run("alpha", commands)
    raw = json.loads(json.dumps(rack.raw))
    alpha = rack.raw["hosts"]["alpha"]
    alpha["nics"] = [nic(1, 0, mtu=4000, addresses=["10.31.0.11/24"]), nic(1, 1, mtu=2000)]
    alpha["network"] = {"routes": [{"to": "default", "via": "10.31.0.1"}]}
    try:
        rack.start_change("alpha")
        assert "10.31.0.1" in rack.run("alpha", "ip route show default")
    finally:
        rack.raw = raw
    rack.run("alpha", "systemctl start undo-rackwright-network.service")

    assert rack.run("alpha", commands) == before
    assert rack.run("alpha", WAITING) == ""
    rack.up("alpha")


IFUPDOWN = """
mkdir -p /etc/network
cat > /etc/network/interfaces <<END
auto lo fabric1
iface lo inet loopback
iface fabric1 inet static
  address 10.60.0.11/24
END
cat > /etc/systemd/system/networking.service <<END
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=ip link set fabric1 down
[Install]
WantedBy=multi-user.target
END
systemctl enable --quiet --now networking.service
"""
"""Files of ifupdown, as Debian's installer creates them."""


@ROOT_ONLY
def test_ifupdown_is_replaced_only_if_declared(rack: Rack) -> None:
    """
    The files of ifupdown are moved aside and its service is disabled; an unconfirmed change restores both.
    """
    rack.up("alpha")
    rack.run("alpha", IFUPDOWN)
    commands = "cat /etc/network/interfaces; systemctl is-enabled networking.service"
    before = rack.run("alpha", commands)
    differs, plan = rack.observe("alpha")
    assert differs == {"link:fabric1.files_of_others"}
    assert "takeover: ifupdown" in plan.refusals[0].help

    rack.raw["hosts"]["alpha"]["network"]["takeover"] = "ifupdown"
    try:
        rack.start_change("alpha")
        assert rack.run("alpha", "systemctl is-enabled networking.service || true") == "disabled"
        rack.run("alpha", "systemctl start undo-rackwright-network.service")
        assert rack.run("alpha", commands) == before

        rack.up("alpha")
        assert "10.60.0.11" in rack.run("alpha", "cat /var/lib/rackwright/before/network/etc/network/interfaces")
    finally:
        rack.run("alpha", "rm -f /etc/network/interfaces; systemctl disable --quiet networking.service")
        del rack.raw["hosts"]["alpha"]["network"]["takeover"]


WAITING = "ls /etc/systemd/system | grep undo || true"
"""Command that prints the timers that are still waiting."""


@pytest.fixture
def over_the_fabric(rack: Rack) -> Iterator[Hosts]:
    """The hosts, with beta reached through alpha at its fabric address."""
    rack.up("alpha")
    rack.up("beta")
    key = next(line for line in rack.pins.read_text().splitlines() if f":{rack.endpoints['beta'].port} " in f"{line} ")
    pins = rack.pins.with_name("over_the_fabric")
    pins.write_text(f"10.30.0.12 {key.partition(' ')[2]}\n")
    jump = replace(rack.endpoints["alpha"], host="alpha (jump)", logins=tuple(
        login.model_copy(update={"become": False}) for login in rack.endpoints["alpha"].logins
    ))  # fmt: skip
    own, beta = rack.hosts, replace(rack.endpoints["beta"], address="10.30.0.12", port=22, known_hosts=pins, jump=jump)
    rack.hosts = Hosts({**rack.endpoints, "beta": beta}, SALT)
    yield rack.hosts
    rack.hosts.close()
    rack.hosts = own


@ROOT_ONLY
def test_a_host_that_cuts_itself_off_restores_its_network(
    rack: Rack, over_the_fabric: Hosts, eventually: Eventually
) -> None:
    """
    The only address changes, so that no new login succeeds. The error says that the host undoes the change, and when.
    """
    raw = json.loads(json.dumps(rack.raw))
    rack.raw["hosts"]["beta"]["nics"] = [nic(2, 0, addresses=["10.77.0.12/24"])]
    began = time.monotonic()
    try:
        with pytest.raises(StepFailed) as failure:
            rack.up("beta")
    finally:
        rack.raw = raw
    message = str(failure.value)
    assert re.search(r"\((log in again|set up the links .*|stop the timer: .*)\)", message), message
    assert "within 30 s the host itself undoes" in message

    own = Hosts({"beta": rack.endpoints["beta"]}, SALT)
    eventually(lambda: "10.30.0.12/24" in rack.run("beta", "ip -br address show dev fabric0"))
    assert time.monotonic() - began >= 25
    own.close()
    rack.hosts = Hosts({**rack.hosts._endpoints}, SALT)  # the same object does not try an unreachable host again
    eventually(lambda: rack.run("beta", WAITING) == "")
    assert rack.observe("beta")[0] == {"owner:network.phase"}
    rack.up("beta")


@pytest.fixture(scope="module")
def gamma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A virtual machine with a bond of two ports, two VLANs on it, and a port that is renamed at the change."""
    named = {**GAMMA, "nics": [*GAMMA["nics"][:2], {**GAMMA["nics"][2], "name": "eth9"}], "network": None}
    rack = Rack(tmp_path_factory.mktemp("bonded"), fleet({"gamma": named}), set())
    rack.raw = fleet({"gamma": GAMMA})
    rack.start()
    yield rack
    rack.stop()


GAMMA: dict[str, Any] = {
    "nics": [nic(3, 0, mtu=9000), nic(3, 1, mtu=9000), nic(3, 2, addresses=["10.50.0.13/24"])],
    "network": {
        "bonds": {
            "bond0": {"members": ["fabric0", "fabric1"], "mode": "active-backup", "addresses": ["10.30.0.13/24"]}
        },
        "vlans": {
            "storage": {"link": "bond0", "id": 40, "addresses": ["10.40.0.13/24"]},
            "backup": {"link": "bond0", "id": 41, "mtu": 1500},
        },
        "routes": [
            {"to": "default", "via": "10.40.0.1", "metric": 500},
            {"to": "198.51.100.0/24", "via": "10.50.0.1"},
        ],
        "fabric": "bond0",
    },
}
DOOR = "ip -br address show dev management; ip route show dev management"


def test_a_bond_with_vlans_is_set_up_and_survives_a_boot(gamma: Rack, eventually: Eventually) -> None:
    """
    The ports are matched by their permanent addresses, since members of a bond share one. The management NIC stays.
    """
    before = gamma.run("gamma", DOOR)

    gamma.up("gamma")
    assert gamma.run("gamma", "cat /sys/class/net/bond0/bonding/mode; cat /sys/class/net/storage/mtu").split() == [
        *("active-backup", "1", "9000")
    ]
    assert "802.1Q id 40" in gamma.run("gamma", "ip -d link show storage").replace("protocol ", "")
    boot = gamma.run("gamma", "cat /proc/sys/kernel/random/boot_id; systemctl reboot")

    eventually(lambda: gamma.boot("gamma") not in ("", boot))
    eventually(lambda: gamma.observe("gamma")[0] == set())
    assert gamma.run("gamma", DOOR) == before


BENT = {
    "link:bond0.members": "ip link set dev fabric1 nomaster",
    "link:fabric1.bond": "true",
    "link:storage.addresses": "ip address add 10.40.0.99/24 dev storage",
    "link:backup.mtu": "ip link set dev backup mtu 1400",
    "link:fabric2.mtu": "ip link set dev fabric2 mtu 1400",
}
"""Commands that change bonds and VLANs by hand, by the path that then differs. A released port has another MTU."""


def test_changes_of_bonds_and_vlans_by_hand_are_corrected(gamma: Rack) -> None:
    gamma.up("gamma")
    gamma.run("gamma", "\n".join(BENT.values()))
    assert gamma.observe("gamma")[0] >= {*BENT}

    gamma.up("gamma")


def test_undeclared_devices_are_removed_and_unmanaged_ones_stay(gamma: Rack) -> None:
    """
    A new mode and a new tag create new devices; an unmanaged bridge and an unmanaged VLAN stay.
    """
    gamma.up("gamma")
    gamma.run("gamma", "ip link add br9 type bridge; ip link add link fabric2 name own.9 type vlan id 9")
    network = gamma.raw["hosts"]["gamma"]["network"]
    del network["vlans"]["backup"]
    network["bonds"]["bond0"]["mode"] = "balance-xor"
    network["vlans"]["storage"]["id"] = 42

    gamma.up("gamma")

    there = gamma.run("gamma", "ls /sys/class/net").split()
    assert {"br9", "own.9"} <= {*there} and "backup" not in there

"""A host's network on the twin: what is declared comes true and nothing else is touched, or the host takes it back."""

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
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else")


class Rack:
    """A fleet on its twin, and what a provider does with a resource of one of its hosts, its network for instance."""

    def __init__(self, directory: Path, fleet: dict[str, Any], containers: set[str]) -> None:
        self.raw, self.containers = fleet, frozenset(containers)
        self.twin: Twin = build_twin("network", directory, Fleet.model_validate(fleet), containers)
        self.repository = Repository.load(ROOT, SALT)

    def start(self) -> None:
        self.twin.start(print)
        told = json.loads((self.twin.layout.directory / "endpoints.json").read_text())["hosts"]
        self.pins = self.twin.layout.directory / "known_hosts"
        self.endpoints = {name: self._endpoint(name, entry) for name, entry in told.items()}
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
        """Return which boot of *host* this is; nothing while it does not answer."""
        argv = [*self.twin.ssh(host)[:-1], "-o", "ConnectTimeout=5", self.twin.ssh(host)[-1]]
        done = subprocess.run([*argv, "cat /proc/sys/kernel/random/boot_id"], capture_output=True, text=True)
        return done.stdout.strip()

    @property
    def stack(self) -> Stack:
        fleet = Fleet.model_validate(self.raw)
        return Stack("network", ROOT, fleet, {}, self.repository, SALT, "network", self.containers)

    def look(self, host: str, what: str = "network") -> tuple[set[str], Plan]:
        """Return the paths of what differs or cannot be known, and the plan that mends it."""
        declared = next(one for one in declare(self.stack) if one.name == f"{host}/{what}")
        kind, spec = declared.kind, declared.spec
        claims = rehearsable_claims(kind.claims(spec, self.repository), spec)
        facts = self.hosts.facts(host, fresh=True)
        differences = comparison.diff(claims, kind.observe(claims, facts))
        return {item.path for item in differences}, kind.plan(spec, differences, facts, self.repository)

    def begin(self, host: str) -> None:
        """Change it, and leave it to the host's timer."""
        with self.hosts.lease(host, f"{host}/network", print):
            _, plan = self.look(host)
            confirmed = next(index for index, step in enumerate(plan.steps) if isinstance(step, LogIn))
            execute(self.hosts, host, f"{host}/network", plan.steps[:confirmed], print)

    def up(self, host: str, what: str = "network") -> None:
        """Make it as declared; afterwards nothing may differ."""
        with self.hosts.lease(host, f"{host}/{what}", print):
            _, plan = self.look(host, what)
            assert not plan.refusals, plan.refusals
            execute(self.hosts, host, f"{host}/{what}", plan.steps, print)
        assert self.look(host, what)[0] == set()


def fleet(hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return a fleet of *hosts*, each with what it takes to be one."""
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
    """Two containers: alpha for all that is done over its own door, beta for what is reached over its fabric alone."""
    alpha = {
        "nics": [nic(1, 0, mtu=9000, addresses=["10.30.0.11/24", "2001:db8:30::11/64"]), nic(1, 1)],
        "network": {
            "routes": [{"to": "198.51.100.0/24", "via": "10.30.0.1"}],
            "dns": {"addresses": ["192.0.2.53", "192.0.2.54"], "search": ["rack.example"]},
        },
    }
    beta = {"nics": [nic(2, 0, addresses=["10.30.0.12/24"])], "network": {"confirm_seconds": 30}}
    # a port of the twin that the declaration of the network below leaves out
    stray = {**alpha, "nics": [*alpha["nics"], {"name": "office", "mac": "52:54:00:03:01:99"}]}
    rack = Rack(tmp_path_factory.mktemp("wired"), fleet({"alpha": stray, "beta": beta}), {"alpha", "beta"})
    rack.start()
    rack.raw = fleet({"alpha": alpha, "beta": beta})
    yield rack
    rack.stop()


OFFICE = "ip link set office up; ip address replace 10.99.0.1/24 dev office"
SEEN = "ip -br address show dev office; ip route show dev office; cat /sys/class/net/office/mtu"


@ROOT_ONLY
def test_what_is_declared_comes_true_and_nothing_else_is_touched(rack: Rack) -> None:
    """
    Addresses of both families, MTU, route and name servers; the port that is not declared keeps what it has.
    """
    before = rack.run("alpha", f"{OFFICE}\n{SEEN}")

    rack.up("alpha")

    assert rack.run("alpha", SEEN) == before
    assert "10.30.0.11/24" in rack.run("alpha", "ip -br address show dev fabric0")
    assert rack.run("alpha", "ip route show 198.51.100.0/24").startswith("198.51.100.0/24 via 10.30.0.1 dev fabric0")
    assert "nameserver 192.0.2.54" in rack.run("alpha", "cat /etc/resolv.conf")
    assert "NCCL_SOCKET_IFNAME==fabric0" in rack.run("alpha", "cat /etc/rackwright/network.env").splitlines()
    assert rack.run("alpha", "stat -c %a /etc/netplan/60-rackwright.yaml") == "600"
    assert rack.look("alpha")[1] == Plan()


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
"""By path what breaks it."""


@ROOT_ONLY
def test_what_is_changed_by_hand_is_found_under_its_path_and_mended(rack: Rack) -> None:
    """
    All at once, and nothing else is found.
    """
    rack.up("alpha")
    rack.run("alpha", "\n".join(BROKEN.values()))
    assert rack.look("alpha")[0] == {*BROKEN}

    rack.up("alpha")


@ROOT_ONLY
def test_a_change_that_is_not_confirmed_leaves_no_trace(rack: Rack) -> None:
    """
    Here nobody logs in anew, and the timer is let go off at once: all is what it was.
    """
    rack.up("alpha")
    look = "cat /etc/netplan/* /etc/resolv.conf; ls /etc/systemd/network; ip -br address | sort; ip route; ip link"
    before = rack.run("alpha", look)
    raw = json.loads(json.dumps(rack.raw))
    alpha = rack.raw["hosts"]["alpha"]
    alpha["nics"] = [nic(1, 0, mtu=4000, addresses=["10.31.0.11/24"]), nic(1, 1, mtu=2000)]
    alpha["network"] = {"routes": [{"to": "default", "via": "10.31.0.1"}]}
    try:
        rack.begin("alpha")
        assert "10.31.0.1" in rack.run("alpha", "ip route show default")
    finally:
        rack.raw = raw
    rack.run("alpha", "systemctl start undo-rackwright-network.service")

    assert rack.run("alpha", look) == before
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
"""What a host has that Debian's installer has set up."""


@ROOT_ONLY
def test_ifupdown_is_taken_over_only_where_that_is_declared(rack: Rack) -> None:
    """
    Its files are kept aside and its service is off at the next boot; a change that nobody confirms brings both back.
    """
    rack.up("alpha")
    rack.run("alpha", IFUPDOWN)
    look = "cat /etc/network/interfaces; systemctl is-enabled networking.service"
    before = rack.run("alpha", look)
    differs, plan = rack.look("alpha")
    assert differs == {"link:fabric1.files_of_others"}
    assert "takeover: ifupdown" in plan.refusals[0].fix

    rack.raw["hosts"]["alpha"]["network"]["takeover"] = "ifupdown"
    try:
        rack.begin("alpha")
        assert rack.run("alpha", "systemctl is-enabled networking.service || true") == "disabled"
        rack.run("alpha", "systemctl start undo-rackwright-network.service")
        assert rack.run("alpha", look) == before

        rack.up("alpha")
        assert "10.60.0.11" in rack.run("alpha", "cat /var/lib/rackwright/before/network/etc/network/interfaces")
    finally:
        rack.run("alpha", "rm -f /etc/network/interfaces; systemctl disable --quiet networking.service")
        del rack.raw["hosts"]["alpha"]["network"]["takeover"]


WAITING = "ls /etc/systemd/system | grep undo || true"
"""Prints the timers that nobody has stopped, and that have not gone off."""


@pytest.fixture
def over_the_fabric(rack: Rack) -> Iterator[Hosts]:
    """Beta, reached through alpha at the address of its own fabric."""
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
def test_a_host_that_cut_itself_off_comes_back_by_itself(
    rack: Rack, over_the_fabric: Hosts, eventually: Eventually
) -> None:
    """
    Its only address becomes another, so that nobody gets in anew; the error says who puts that back, and by when.
    """
    raw = json.loads(json.dumps(rack.raw))
    rack.raw["hosts"]["beta"]["nics"] = [nic(2, 0, addresses=["10.77.0.12/24"])]
    began = time.monotonic()
    try:
        with pytest.raises(StepFailed) as failure:
            rack.up("beta")
    finally:
        rack.raw = raw
    said = str(failure.value)
    assert re.search(r"\((log in again|set up the links .*|stop the timer: .*)\)", said), said
    assert "within 30 s the host puts back by itself" in said

    own = Hosts({"beta": rack.endpoints["beta"]}, SALT)
    eventually(lambda: "10.30.0.12/24" in rack.run("beta", "ip -br address show dev fabric0"))
    assert time.monotonic() - began >= 25
    own.close()
    rack.hosts = Hosts({**rack.hosts._endpoints}, SALT)  # what was not reached is not tried again by the same
    eventually(lambda: rack.run("beta", WAITING) == "")
    assert rack.look("beta")[0] == {"owner:network.phase"}
    rack.up("beta")


@pytest.fixture(scope="module")
def gamma(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    """A virtual machine with a bond of two ports, two VLANs on it, and a port that is called otherwise until then."""
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


def test_a_bond_and_vlans_on_it_come_true_and_back_at_boot(gamma: Rack, eventually: Eventually) -> None:
    """
    By the permanent addresses of ports that share one now; the way in by which it is done is not touched.
    """
    before = gamma.run("gamma", DOOR)

    gamma.up("gamma")
    assert gamma.run("gamma", "cat /sys/class/net/bond0/bonding/mode; cat /sys/class/net/storage/mtu").split() == [
        *("active-backup", "1", "9000")
    ]
    assert "802.1Q id 40" in gamma.run("gamma", "ip -d link show storage").replace("protocol ", "")
    boot = gamma.run("gamma", "cat /proc/sys/kernel/random/boot_id; systemctl reboot")

    eventually(lambda: gamma.boot("gamma") not in ("", boot))
    eventually(lambda: gamma.look("gamma")[0] == set())
    assert gamma.run("gamma", DOOR) == before


BENT = {
    "link:bond0.members": "ip link set dev fabric1 nomaster",
    "link:fabric1.bond": "true",
    "link:storage.addresses": "ip address add 10.40.0.99/24 dev storage",
    "link:backup.mtu": "ip link set dev backup mtu 1400",
    "link:fabric2.mtu": "ip link set dev fabric2 mtu 1400",
}
"""By path what breaks it; a port that is let go of has another size, until it is taken back."""


def test_what_is_bent_by_hand_is_straightened(gamma: Rack) -> None:
    gamma.up("gamma")
    gamma.run("gamma", "\n".join(BENT.values()))
    assert gamma.look("gamma")[0] >= {*BENT}

    gamma.up("gamma")


def test_devices_that_nobody_wants_any_more_go_and_those_of_others_stay(gamma: Rack) -> None:
    """
    Another mode and another tag mean new devices; a bridge and a VLAN that somebody else made are not touched.
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

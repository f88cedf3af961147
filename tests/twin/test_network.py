"""The network of a container: the declared state is set up, or the host undoes the change by itself.

`make accept ONLY='roles.2[bonds] roles.4[network]'` checks bonds and VLANs, and a host that cuts itself off.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import LogIn, Plan
from rackwright.core.repository import Repository
from rackwright.core.scope import rehearsable_claims
from rackwright.hosts.pool import Hosts
from rackwright.hosts.steps import execute
from rackwright.schema import Fleet
from rackwright.schema.ssh import Endpoint, Login
from rackwright.stack import Stack, declare
from rackwright.twin import Twin
from rackwright.twin.fleet import build_twin

pytestmark = pytest.mark.twin
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
    """A container with two declared ports and an undeclared one."""
    alpha = {
        "nics": [nic(1, 0, mtu=9000, addresses=["10.30.0.11/24", "2001:db8:30::11/64"]), nic(1, 1)],
        "network": {
            "routes": [{"to": "198.51.100.0/24", "via": "10.30.0.1"}],
            "dns": {"addresses": ["192.0.2.53", "192.0.2.54"], "search": ["rack.example"]},
        },
    }
    # a port of the twin that is not in the declared network below
    stray = {**alpha, "nics": [*alpha["nics"], {"name": "office", "mac": "52:54:00:03:01:99"}]}
    rack = Rack(tmp_path_factory.mktemp("wired"), fleet({"alpha": stray}), {"alpha"})
    rack.start()
    rack.raw = fleet({"alpha": alpha})
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
    "route:198.51.100.0/24.chosen": "true",
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

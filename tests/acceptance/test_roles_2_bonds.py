"""Line 2, the network: a bond with VLANs is set up, survives a boot, and is mended after changes by hand."""

import json
from typing import Any

from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

HOST = "gamma"
RESOURCE = f"{HOST}/network"


def _nic(port: int, name: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name or f"fabric{port}", "mac": f"52:54:00:03:03:{port:02x}", **more}


BOOT = {"drives": [{"serial": "GAMMA-BOOT", "boot": True}]}
COMMON = {"os": "debian-12", "address": "192.0.2.1", "identity": {"serial": "S-GAMMA"}, **BOOT}
PORTS = (_nic(0, mtu=9000), _nic(1, mtu=9000))
ADDRESSES = ["10.50.0.13/24"]
BEFORE = {**COMMON, "nics": [*PORTS, _nic(2, "eth9", addresses=ADDRESSES)]}
"""The host as the twin starts it: its third port has another name."""
DECLARED = {
    **COMMON,
    "nics": [*PORTS, _nic(2, addresses=ADDRESSES)],
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
MANAGEMENT = "ip -br address show dev management; ip route show dev management"
"""Command that prints the state of the port by which the host is reached."""
BENT = {
    "link:bond0.members": "ip link set dev fabric1 nomaster",
    "link:fabric1.bond": "true",
    "link:storage.addresses": "ip address add 10.40.0.99/24 dev storage",
    "link:backup.mtu": "ip link set dev backup mtu 1400",
    "link:fabric2.mtu": "ip link set dev fabric2 mtu 1400",
}
"""Commands that change bonds and VLANs by hand, by the path that then differs. A released port has another MTU."""


@line("roles", 2, part="bonds")
def test_each_changed_bond_and_vlan_is_found_and_mended(log: Log) -> str:
    with Lab(log.empty_directory() / "project", json.dumps({"fleet": "wired", "hosts": {HOST: BEFORE}}), log) as lab:
        lab.start()
        _set_up(lab)
        _mend(lab)
        _replace(lab)
    return f"a bond, two VLANs and a renamed port survive a boot; {len(BENT)} changes by hand found and mended"


def _set_up(lab: Lab) -> None:
    """The ports are matched by their permanent addresses, since members of a bond share one."""
    before = lab.ssh(HOST, MANAGEMENT)
    lab.edit(lambda fleet: fleet["hosts"].update({HOST: DECLARED}))
    lab.log("up")
    lab.up()
    shown = lab.ssh(HOST, "cat /sys/class/net/bond0/bonding/mode; cat /sys/class/net/storage/mtu").split()
    need(shown == ["active-backup", "1", "9000"], f"the bond and the MTU of its VLAN are {shown}")
    vlan = lab.ssh(HOST, "ip -d link show storage").replace("protocol ", "")
    need("802.1Q id 40" in vlan, f"the VLAN is {vlan}")
    lab.log("restarting the machine")
    lab.reboot(HOST)
    eventually(lambda: not lab.audit_differences(), "nothing differs after the boot")
    need(lab.ssh(HOST, MANAGEMENT) == before, "the management port has changed")


def _mend(lab: Lab) -> None:
    lab.log("changing bonds and VLANs by hand")
    lab.ssh(HOST, "\n".join(BENT.values()))
    [network] = [resource for resource in lab.audit()["resources"] if resource["name"] == RESOURCE]
    found = {f"{each['claim']}.{each['property']}" for each in network["differences"]}
    need(found >= {*BENT}, f"not found: {', '.join({*BENT} - found)}")
    lab.up()
    need(not (left := lab.differing()), f"{format_claims(left)} differ after up")


def _replace(lab: Lab) -> None:
    """A new mode and a new tag create new devices; an unmanaged bridge and an unmanaged VLAN stay."""
    lab.log("declaring another mode, another tag and one VLAN less")
    lab.ssh(HOST, "ip link add br9 type bridge; ip link add link fabric2 name own.9 type vlan id 9")

    def change(fleet: Any) -> None:
        network = fleet["hosts"][HOST]["network"]
        del network["vlans"]["backup"]
        network["bonds"]["bond0"]["mode"] = "balance-xor"
        network["vlans"]["storage"]["id"] = 42

    lab.edit(change)
    lab.up()
    need(not (left := lab.audit_differences()), f"{format_claims(left)} differ after up")
    devices = {*lab.ssh(HOST, "ls /sys/class/net").split()}
    need({"br9", "own.9"} <= devices, f"an unmanaged device is gone: {', '.join(sorted(devices))}")
    need("backup" not in devices, "the undeclared VLAN is still there")

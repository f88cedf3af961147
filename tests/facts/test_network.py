"""Links, sockets and resolvers of a fabricated machine; addresses and routes as a kernel answered."""

import json
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rackwright.facts.probe import netlink, network
from rackwright.facts.probe.observe import ReadError, attempt
from tests.support.fabricated_machine import FabricatedMachine

RECORDED = json.loads((Path(__file__).parent / "netlink.json").read_text())
"""What a kernel answered in a virtual machine: its link 2 was set up by DHCP, and everything else was put on link 6."""
NIC = "pci0000:00/0000:00:03.0"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(netlink, "addresses", dict)
    monkeypatch.setattr(netlink, "permanent_macs", dict)
    return FabricatedMachine(tmp_path)


def link_of(machine, name):
    return next(link for link in network.links(machine.top) if link["name"] == name)


def test_a_port_is_all_that_the_kernel_reports_of_it(machine, monkeypatch):
    monkeypatch.setattr(netlink, "addresses", lambda: {3: ["fd00::11/64", "10.30.0.11/24"]})
    machine.link("fabric0", 3, NIC, mtu="9000")
    machine.write("sys/class/net/bonding_masters", "\n")

    assert network.links(machine.top) == [
        {
            "name": "fabric0",
            "kind": "physical",
            "mac": "52:54:00:01:00:01",
            "permanent_mac": "52:54:00:01:00:01",
            "mtu": 9000,
            "up": True,
            "carrier": True,
            "addresses": ["10.30.0.11/24", "fd00::11/64"],
            "master": None,
            "slaves": [],
            "vlan_id": None,
            "parent": None,
            "pci_address": "0000:00:03.0",
            "bond_mode": None,
            "bond_options": None,
        }
    ]


def test_the_ports_of_a_bond_keep_an_address_of_their_own(machine):
    bond = machine.link("bond0", 5, addr_assign_type="3")
    machine.write(f"{bond.relative_to(machine.root)}/bonding/mode", "802.3ad 4\n")
    for index, name in enumerate(("fabric1", "fabric0")):
        port = machine.link(name, index + 2, f"{NIC}/port{index}", addr_assign_type="3")
        machine.write(f"{port.relative_to(machine.root)}/bonding_slave/perm_hwaddr", f"52:54:00:01:00:0{index}\n")
        machine.stack("bond0", name)

    options = {"lacp_rate": "fast 1", "xmit_hash_policy": "layer3+4 1", "ad_select": "stable 0", "min_links": "1"}
    for name, value in {**options, "updelay": "200", "primary": ""}.items():
        machine.write(f"{bond.relative_to(machine.root)}/bonding/{name}", f"{value}\n")

    found = link_of(machine, "bond0")

    assert found["bond_options"].pop("down_delay_ms")["unknown"]
    assert found["bond_options"] == {
        "lacp_rate": "fast",
        "hash_policy": "layer3+4",
        "ad_select": "stable",
        "min_links": 1,
        "up_delay_ms": 200,
        "primary": "none",
    }
    assert (found["kind"], found["bond_mode"], found["slaves"]) == ("bond", "802.3ad", ["fabric0", "fabric1"])
    assert found["permanent_mac"] == found["mac"]
    assert link_of(machine, "fabric0")["master"] == "bond0"
    assert link_of(machine, "fabric0")["permanent_mac"] == "52:54:00:01:00:01"
    assert link_of(machine, "fabric1")["permanent_mac"] == "52:54:00:01:00:00"


def test_a_vlan_has_a_number_and_a_parent_and_no_ports(machine):
    machine.link("bond0", 5)
    machine.link("storage", 6, uevent="DEVTYPE=vlan\nINTERFACE=storage")
    machine.stack("storage", "bond0", port=False)
    machine.write("proc/net/vlan/storage", "storage  VID: 30\t REORDER_HDR: 1  dev->priv_flags: 81021\n")

    found = link_of(machine, "storage")

    assert (found["kind"], found["vlan_id"], found["parent"], found["slaves"]) == ("vlan", 30, "bond0", [])
    assert link_of(machine, "bond0")["master"] is None


def test_a_vlan_of_another_namespace_s_link_does_not_know_its_parent(machine):
    machine.link("storage", 6, uevent="DEVTYPE=vlan")

    found = link_of(machine, "storage")

    assert found["parent"] == {"unknown": "the parent is in another network namespace"}
    assert found["vlan_id"].keys() == {"unknown"}
    assert found["kind"] == "vlan"


def test_a_bridge_the_loopback_and_the_rest_are_distinguished(machine):
    (machine.link("br0", 7) / "bridge").mkdir()
    machine.link("lo", 1, type="772", operstate="unknown")
    machine.link("tap0", 8)

    assert {name: link_of(machine, name)["kind"] for name in ("br0", "lo", "tap0")} == {
        "br0": "bridge",
        "lo": "loopback",
        "tap0": "other",
    }


@pytest.mark.parametrize(
    ("flags", "operstate", "up"),
    [
        ("0x1003", "up", True),
        ("0x1003", "down", False),
        ("0x1002", "down", False),
        ("0x9", "unknown", True),
        ("0x8", "unknown", False),
        ("0x1003", "lowerlayerdown", False),
    ],
)
def test_a_link_is_up_when_it_is_switched_on_and_has_a_carrier(machine, flags, operstate, up):
    machine.link("fabric0", flags=flags, operstate=operstate)

    assert link_of(machine, "fabric0")["up"] is up


def test_a_link_without_a_signal_is_distinguished_from_one_that_is_switched_off(machine):
    machine.link("fabric0", 2, carrier="0")
    machine.link("fabric1", 3, flags="0x1002", carrier="")

    assert link_of(machine, "fabric0")["carrier"] is False
    assert link_of(machine, "fabric1")["carrier"] == {"unknown": "the link is disabled"}


def test_a_port_whose_address_was_set_does_not_know_its_own(machine):
    machine.link("fabric0", 2, NIC, addr_assign_type="3")

    assert "not the hardware's own" in link_of(machine, "fabric0")["permanent_mac"]["unknown"]


def test_a_port_that_a_bond_has_let_go_of_is_known_by_its_hardware(machine, monkeypatch):
    """
    To the files, its address is one that somebody has set.
    """
    monkeypatch.setattr(netlink, "permanent_macs", lambda: {2: "52:54:00:01:00:77"})
    machine.link("fabric0", 2, NIC, addr_assign_type="3")

    assert link_of(machine, "fabric0")["permanent_mac"] == "52:54:00:01:00:77"


def test_the_kernel_s_links_are_read(monkeypatch):
    """
    A port with an address of its hardware, and one that has none.
    """
    header = struct.pack("=BxHiII", 0, 1, 7, 0, 0)
    permanent = struct.pack("=HH", 10, netlink.PERMANENT) + bytes.fromhex("525400010077") + bytes(2)
    monkeypatch.setattr(netlink, "dump", lambda request: [header + permanent, header])

    assert netlink.permanent_macs() == {7: "52:54:00:01:00:77"}


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("pci0000:3a/0000:3a:00.0/0000:3b:00.1", "0000:3b:00.1"),
        ("pci10000:00/10000:00:02.0", "10000:00:02.0"),
        (f"{NIC}/virtio1", "0000:00:03.0"),
        ("pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0", None),
        ("pci0000:3a/0000:3b:00.0/mlx5_core.sf.2", None),
        ("platform/eth", None),
    ],
)
def test_the_place_on_pci_is_the_port_s_own(machine, place, address):
    machine.link("fabric0", place=place)

    assert link_of(machine, "fabric0")["pci_address"] == address


def test_what_one_link_does_not_tell_hides_nothing_else(machine, monkeypatch):
    def refuse():
        raise ReadError("no netlink here")

    monkeypatch.setattr(netlink, "addresses", refuse)
    machine.link("fabric0", 2, NIC)
    machine.link("fabric1", 3, f"{NIC}/port1")
    (machine.root / "sys/class/net/fabric0/mtu").unlink()
    (machine.root / "sys/class/net/fabric0/type").unlink()

    found = link_of(machine, "fabric0")

    follow_from_the_kind = {"permanent_mac", "vlan_id", "parent", "bond_mode", "bond_options"}
    assert {key for key in found if isinstance(found[key], dict)} == {"kind", "mtu", "addresses", *follow_from_the_kind}
    assert link_of(machine, "fabric1")["mtu"] == 1500


def kernel_s(address: bytes, port: int) -> str:
    """Return an address as /proc/net prints it on this machine."""
    words = struct.unpack(f"={len(address) // 4}I", address)
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


LOCAL, EVERY, LISTENING, CONNECTED, UNCONNECTED = bytes([127, 0, 0, 1]), bytes(4), "0A", "01", "07"
MAPPED = bytes(10) + b"\xff\xff" + LOCAL


def test_sockets_that_wait_for_others(machine):
    machine.sockets(
        "tcp",
        (kernel_s(LOCAL, 5432), LISTENING),
        (kernel_s(EVERY, 22), LISTENING),
        (kernel_s(EVERY, 22), LISTENING),
        (kernel_s(LOCAL, 50000), CONNECTED),
    )
    machine.sockets("tcp6", (kernel_s(bytes(16), 22), LISTENING), (kernel_s(MAPPED, 8080), LISTENING))
    machine.sockets("udp", (kernel_s(LOCAL, 323), UNCONNECTED), (kernel_s(LOCAL, 40000), CONNECTED))
    machine.sockets("udp6", (kernel_s(bytes(15) + b"\1", 323), UNCONNECTED))

    assert [tuple(found.values()) for found in network.sockets(machine.top)] == [
        ("tcp", "0.0.0.0", 22),
        ("tcp", "127.0.0.1", 5432),
        ("tcp", "127.0.0.1", 8080),
        ("tcp", "::", 22),
        ("udp", "127.0.0.1", 323),
        ("udp", "::1", 323),
    ]


def test_without_ipv6_there_are_sockets_and_without_tables_none_is_known(machine):
    machine.sockets("tcp", (kernel_s(EVERY, 22), LISTENING))

    assert [found["port"] for found in network.sockets(machine.top)] == [22]
    (machine.root / "proc/net/udp").unlink()
    assert attempt(network.sockets, machine.top).keys() == {"unknown"}


@given(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), st.integers(1, 65535))
def test_an_endpoint_is_read_as_the_kernel_of_this_machine_prints_it(address, port):
    assert network.endpoint(kernel_s(address, port)) == (netlink.address(address), port)


def test_an_address_printed_by_a_processor_that_counts_from_the_low_end(monkeypatch):
    monkeypatch.setattr(sys, "byteorder", "little")

    assert network.endpoint("0B001E0A:1F90") == ("10.30.0.11", 8080)
    assert network.endpoint("000080FE00000000FF005450010001FE:0016") == ("fe80::5054:ff:fe01:1", 22)


RESOLV = """\
# written by hand
nameserver 10.0.0.2
nameserver\t fd00::2
#nameserver 10.0.0.9
search old.example
options edns0
search rack.example example
"""


def test_resolvers_are_in_their_order_and_the_last_search_counts(machine):
    machine.write("etc/resolv.conf", RESOLV)

    assert network.resolvers(machine.top) == ["10.0.0.2", "fd00::2"]
    assert network.search_domains(machine.top) == ["rack.example", "example"]


def test_behind_the_stub_the_resolvers_are_those_it_asks(machine):
    machine.write("etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\nsearch .\n")
    assert "resolve/resolv.conf" in attempt(network.resolvers, machine.top)["unknown"]
    machine.write("run/systemd/resolve/resolv.conf", "nameserver 10.0.0.2\n")

    assert network.resolvers(machine.top) == ["10.0.0.2"]
    assert network.search_domains(machine.top) == []


@pytest.fixture
def kernel(monkeypatch):
    """Answer as the recorded kernel did."""
    names = {netlink.GET_ADDRESSES: "addresses", netlink.GET_ROUTES: "routes"}
    monkeypatch.setattr(netlink, "dump", lambda request: map(bytes.fromhex, RECORDED[names[request]]))
    if sys.byteorder != "little":
        pytest.skip("recorded on a processor that counts from the low end")


def test_addresses_of_global_scope_are_reported(kernel):
    assert netlink.addresses() == {
        2: ["10.0.2.15/24"],
        6: ["10.30.0.11/24", "10.31.0.1/32", "10.30.0.12/24", "fd00:30::11/64"],
    }


def test_an_address_that_ipv6_made_up_for_a_while_is_left_out(monkeypatch):
    def answer(flags):
        return struct.pack("=BBBBIHH", 10, 64, flags, 0, 3, 20, netlink.ADDRESS) + bytes(15) + b"\1"

    monkeypatch.setattr(netlink, "dump", lambda request: [answer(netlink.TEMPORARY), answer(0)])

    assert netlink.addresses() == {3: ["::1/64"]}


def test_routes_that_were_set_by_hand_are_reported(kernel, machine):
    machine.link("management", 2)
    machine.link("storage", 6)

    assert [tuple(route.values()) for route in network.routes(machine.top)] == [
        ("default", "10.0.2.2", "management", 0),
        ("10.40.0.0/16", "10.30.0.1", "storage", 7),
        ("10.50.0.0/16", "10.30.0.1", "storage", 0),
        ("10.50.0.0/16", "10.30.0.2", "storage", 0),
        ("10.60.0.0/16", None, "storage", 0),
        ("10.70.0.0/16", "fe80::1", "storage", 0),
        ("10.91.0.0/16", "10.30.0.5", "storage", 0),
        ("fd00:40::/64", "fd00:30::1", "storage", 1024),
        ("fd00:50::/64", "fd00:30::1", "storage", 1024),
        ("fd00:50::/64", "fd00:30::2", "storage", 1024),
        ("default", "fd00:30::1", "storage", 9),
    ]


def test_a_table_that_changed_during_the_read_is_read_again(monkeypatch):
    answers = [[(netlink.INTERRUPTED, b"half"), (0, b"")], [(0, b"whole"), (0, b"")]]
    monkeypatch.setattr(netlink, "send_request", lambda *request: answers.pop(0))

    assert netlink.dump(netlink.GET_ROUTES) == [b"whole"]

    monkeypatch.setattr(netlink, "send_request", lambda *request: [(netlink.INTERRUPTED, b"half"), (0, b"")])
    with pytest.raises(ReadError, match="changed during each read"):
        netlink.dump(netlink.GET_ROUTES)


@pytest.mark.skipif(sys.platform != "linux", reason="asks this computer's own kernel")
def test_this_kernel_answers():
    assert isinstance(netlink.addresses(), dict)
    assert all(len(mac) == 17 for mac in netlink.permanent_macs().values())
    assert all(route["metric"] >= 0 for route in netlink.routes())

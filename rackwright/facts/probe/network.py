"""Network links, addresses, routes, sockets and resolvers."""

from __future__ import annotations

import os
import re
import sys
from itertools import takewhile
from typing import Any

from rackwright.facts.probe import netlink
from rackwright.facts.probe.observe import ReadError, attempt, listing, number, read, read_any, unwrap

LOOPBACK = 772
"""ARPHRD_LOOPBACK, include/uapi/linux/if_arp.h."""
ASSIGNED_BY_HARDWARE = "0"
"""NET_ADDR_PERM, include/uapi/linux/netdevice.h."""
IFF_UP = 1
LISTENING, UNCONNECTED = "0A", "07"
"""TCP_LISTEN and TCP_CLOSE, include/net/tcp_states.h."""
PCI = re.compile(r"/([0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(/virtio\d+)?$")
"""End of the path of a PCI function; a virtual function has one more component, from its driver."""
WORDS_OF_BONDS = {"lacp_rate": "lacp_rate", "hash_policy": "xmit_hash_policy", "ad_select": "ad_select"}
NUMBERS_OF_BONDS = {"min_links": "min_links", "up_delay_ms": "updelay", "down_delay_ms": "downdelay"}
"""Files of a bond's options in sysfs, by the names of the options in fleets."""
STUB = ["127.0.0.53"]
"""Nameservers in /etc/resolv.conf if systemd-resolved answers queries."""


def links(root: str) -> list[dict[str, Any]]:
    net = f"{root}/sys/class/net"
    addresses, macs = attempt(netlink.addresses), attempt(netlink.permanent_macs)
    return [link(root, name, addresses, macs) for name in os.listdir(net) if os.path.isdir(f"{net}/{name}")]


def link(root: str, name: str, addresses: Any, macs: Any) -> dict[str, Any]:
    folder = f"{root}/sys/class/net/{name}"
    kind = attempt(kind_of, folder)
    return {
        "name": name,
        "kind": kind,
        "mac": attempt(read, f"{folder}/address"),
        "permanent_mac": attempt(permanent_mac, folder, kind, macs),
        "mtu": attempt(number, f"{folder}/mtu"),
        "up": attempt(is_up, folder),
        "carrier": attempt(carrier, folder),
        "addresses": attempt(lambda: sorted(unwrap(addresses).get(number(f"{folder}/ifindex"), []))),
        "master": attempt(master, folder),
        "slaves": attempt(slaves, folder, name),
        "vlan_id": attempt(lambda: vlan_id(root, name) if unwrap(kind) == "vlan" else None),
        "parent": attempt(lambda: parent(folder) if unwrap(kind) == "vlan" else None),
        "pci_address": attempt(pci_address, folder),
        "bond_mode": attempt(lambda: bond_mode(folder) if unwrap(kind) == "bond" else None),
        "bond_options": attempt(lambda: bond_options(folder) if unwrap(kind) == "bond" else None),
    }


def kind_of(folder: str) -> str:
    if number(f"{folder}/type") == LOOPBACK:
        return "loopback"
    if os.path.exists(f"{folder}/bonding"):
        return "bond"
    if os.path.exists(f"{folder}/bridge"):
        return "bridge"
    if "DEVTYPE=vlan" in read(f"{folder}/uevent").split():
        return "vlan"
    return "physical" if os.path.exists(f"{folder}/device") else "other"


def permanent_mac(folder: str, kind: Any, macs: Any) -> str:
    """Return the hardware's own address, which a bond does not change; for a link without hardware its current one."""
    mac = read_any(f"{folder}/bonding_slave/perm_hwaddr")
    if not mac and unwrap(kind) == "physical" and isinstance(macs, dict):
        mac = macs.get(number(f"{folder}/ifindex"), "")
    if not mac and unwrap(kind) == "physical" and read(f"{folder}/addr_assign_type") != ASSIGNED_BY_HARDWARE:
        raise ReadError("the current address is not the hardware's own, which the kernel does not show")
    return mac or read(f"{folder}/address")


def is_up(folder: str) -> bool:
    """Return whether a link is enabled and has a carrier; ``unknown`` is the state of loopback, which has none."""
    return bool(int(read(f"{folder}/flags"), 16) & IFF_UP) and read(f"{folder}/operstate") in ("up", "unknown")


def carrier(folder: str) -> bool:
    """Return whether a link has a signal, which the kernel does not report for a disabled link."""
    if not int(read(f"{folder}/flags"), 16) & IFF_UP:
        raise ReadError("the link is disabled")
    return number(f"{folder}/carrier") == 1


def master(folder: str) -> str | None:
    path = f"{folder}/master"
    return os.path.basename(os.readlink(path)) if os.path.islink(path) else None


def lower(folder: str) -> list[str]:
    return [name[len("lower_") :] for name in listing(folder, "lower_*")]


def slaves(folder: str, name: str) -> list[str]:
    """Return the ports of a bond or bridge; the parent of a VLAN is no port of it."""
    return [port for port in lower(folder) if master(f"{folder}/lower_{port}") == name]


def parent(folder: str) -> str:
    lower_links = lower(folder)
    if not lower_links:
        raise ReadError("the parent is in another network namespace")
    return lower_links[0]


def vlan_id(root: str, name: str) -> int:
    return int(re.findall(r"VID: (\d+)", read(f"{root}/proc/net/vlan/{name}"))[0])


def bond_mode(folder: str) -> str:
    return first_word(f"{folder}/bonding/mode")


def first_word(path: str) -> str:
    return read(path).split()[0]


def bond_options(folder: str) -> dict[str, Any]:
    """Return the options of a bond by their names in fleets; the kernel prints the number of a word after it."""
    return {
        **{name: attempt(first_word, f"{folder}/bonding/{file}") for name, file in WORDS_OF_BONDS.items()},
        **{name: attempt(number, f"{folder}/bonding/{file}") for name, file in NUMBERS_OF_BONDS.items()},
        "primary": attempt(lambda: read(f"{folder}/bonding/primary") or "none"),
    }


def pci_address(folder: str) -> str | None:
    match = PCI.search(os.path.realpath(f"{folder}/device"))
    return match[1] if match else None


def routes(root: str) -> list[dict[str, Any]]:
    """Return the configured routes, with the names of their links."""
    names = link_names(root)
    return [{**route, "link": names[route["link"]]} for route in netlink.routes()]


def chosen_routes(root: str) -> dict[str, list[dict[str, Any]]]:
    """Return the routes that the kernel takes to each configured destination, with the names of their links."""
    names = link_names(root)
    return {
        destination: [{**route, "link": names.get(route["link"], "none")} for route in routes]
        for destination, routes in netlink.chosen_routes().items()
    }


def link_names(root: str) -> dict[int, str]:
    net = f"{root}/sys/class/net"
    return {number(f"{net}/{name}/ifindex"): name for name in os.listdir(net) if os.path.isdir(f"{net}/{name}")}


def dead_routes(root: str) -> list[dict[str, Any]]:
    return netlink.dead_routes()


def sockets(root: str) -> list[dict[str, Any]]:
    """Return the listening TCP sockets, and the UDP sockets that are not connected."""
    endpoints = {*tcp(root, "tcp"), *udp(root, "udp")}
    if os.path.exists(f"{root}/proc/net/tcp6"):  # the file does not exist while IPv6 is disabled
        endpoints |= {*tcp(root, "tcp6"), *udp(root, "udp6")}
    return [dict(zip(("protocol", "address", "port"), socket)) for socket in sorted(endpoints)]


def tcp(root: str, table: str) -> list[tuple[str, str, int]]:
    """Return the listening sockets, which the file lists before all others (proc_net_tcp.rst of Linux)."""
    with open(f"{root}/proc/net/{table}") as lines:
        next(lines)
        listening = takewhile(lambda fields: fields[3] == LISTENING, map(str.split, lines))
        return [("tcp", *endpoint(fields[1])) for fields in listening]


def udp(root: str, table: str) -> list[tuple[str, str, int]]:
    with open(f"{root}/proc/net/{table}") as lines:
        next(lines)
        return [("udp", *endpoint(fields[1])) for fields in map(str.split, lines) if fields[3] == UNCONNECTED]


def endpoint(text: str) -> tuple[str, int]:
    """Return address and port; the kernel prints an address as words of 4 bytes in the byte order of the processor."""
    address, port = text.split(":")
    words = (int(address[start : start + 8], 16) for start in range(0, len(address), 8))
    return netlink.address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)), int(port, 16)


def resolvers(root: str) -> list[str]:
    """Return the nameservers in query order; for systemd-resolved's stub, the nameservers that resolved queries."""
    servers = nameservers(f"{root}/etc/resolv.conf")
    return nameservers(f"{root}/run/systemd/resolve/resolv.conf") if servers == STUB else servers


def nameservers(path: str) -> list[str]:
    return re.findall(r"^nameserver\s+(\S+)", read(path), re.M)


def search_domains(root: str) -> list[str]:
    """Return the domains in which a name without a dot is looked up, in order; the last of several lines counts."""
    lines = re.findall(r"^(?:search|domain)[ \t]+(.*)", read(f"{root}/etc/resolv.conf"), re.M)
    return [domain for domain in (lines[-1] if lines else "").split() if domain != "."]

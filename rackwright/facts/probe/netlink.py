"""Addresses, routes and hardware addresses, read from the kernel over netlink.

Files do not contain all of them, and the command ip starts slowly.
Layouts: include/uapi/linux/netlink.h, rtnetlink.h, if_addr.h and if_link.h of Linux.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, Iterator

from rackwright.facts.probe.observe import ReadError

GET_LINKS, GET_ADDRESSES, GET_ROUTES = 18, 22, 26
REQUEST, DUMP, INTERRUPTED = 0x001, 0x300, 0x010
ERROR, DONE = 2, 3
TRIES = 3
SECONDS = 10

ADDRESS, LOCAL, ADDRESS_FLAGS = 1, 2, 8
TEMPORARY = 0x01
PERMANENT = 54
"""IFLA_PERM_ADDRESS, in Linux 5.6 and later."""
DESTINATION, LINK, GATEWAY, METRIC, NEXT_HOPS, TABLE, VIA = 1, 4, 5, 6, 9, 15, 18
MAIN, KERNEL, UNICAST, GLOBAL = 254, 2, 1, 0
DEAD = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
LINK_LOCAL = ("169.254.", "fe80:")
GET_TABLES = 0x0A01
"""NFT_MSG_GETTABLE of the subsystem NFNL_SUBSYS_NFTABLES. Source: linux/netfilter/nfnetlink.h, nf_tables.h."""
TABLE_NAME = 1
FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
"""Source: NFPROTO_ in linux/netfilter.h."""
NETFILTER = getattr(socket, "NETLINK_NETFILTER", 12)
BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}


def address(data: bytes) -> str:
    """Return an address as text; an IPv4 address mapped into IPv6 becomes an IPv4 address."""
    if data.startswith(bytes(10) + b"\xff\xff"):
        data = data[12:]
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def addresses() -> dict[int, list[str]]:
    """Return the addresses of global scope of each link, by its index: ``192.0.2.11/24``.

    Temporary IPv6 privacy addresses are left out, because they are not configured.
    """
    by_link: dict[int, list[str]] = {}
    for message in dump(GET_ADDRESSES):
        family, prefix, flags, scope, link = struct.unpack_from("=BBBBI", message)
        values = attributes(message[8:])
        temporary = family == socket.AF_INET6 and flags & TEMPORARY  # for IPv4 the same bit marks a secondary address
        if scope == GLOBAL and not temporary:
            by_link.setdefault(link, []).append(f"{address(values.get(LOCAL) or values[ADDRESS])}/{prefix}")
    return by_link


def permanent_macs() -> dict[int, str]:
    """Return the permanent hardware address of each link that has one, by the link's index."""
    by_link = {}
    for message in dump(GET_LINKS):
        values = attributes(message[16:])
        if len(values.get(PERMANENT, b"")) == 6:
            by_link[struct.unpack_from("=4xi", message)[0]] = ":".join(f"{byte:02x}" for byte in values[PERMANENT])
    return by_link


def routes() -> list[dict[str, Any]]:
    """Return the configured routes of the main table, with the index of their link.

    Routes that the kernel derives from a link's addresses, and dead routes, are left out.
    """
    rows = []
    for message in dump(GET_ROUTES):
        family, length, _, _, table, protocol, _, kind = struct.unpack_from("=8B", message)
        values = attributes(message[12:])
        table = number(values[TABLE]) if TABLE in values else table
        if (table, kind) == (MAIN, UNICAST) and protocol != KERNEL and family in BITS:
            destination = f"{address(values[DESTINATION])}/{length}" if DESTINATION in values else "default"
            if not destination.startswith(LINK_LOCAL):
                metric = number(values.get(METRIC, bytes(4)))
                rows += [{"destination": destination, **hop, "metric": metric} for hop in next_hops(values)]
    return rows


def dead_routes() -> list[dict[str, Any]]:
    """Return the routes of the main table that discard packets, except those that the kernel sets."""
    rows = []
    for message in dump(GET_ROUTES):
        family, length, _, _, table, protocol, _, kind = struct.unpack_from("=8B", message)
        values = attributes(message[12:])
        table = number(values[TABLE]) if TABLE in values else table
        if table == MAIN and kind in DEAD and protocol != KERNEL and family in BITS:
            destination = f"{address(values[DESTINATION])}/{length}" if DESTINATION in values else "default"
            next_hop = "::" if family == socket.AF_INET6 else None
            metric = number(values.get(METRIC, bytes(4)))
            rows.append({"destination": destination, "gateway": next_hop, "kind": DEAD[kind], "metric": metric})
    return rows


def next_hops(values: dict[int, bytes]) -> Iterator[dict[str, Any]]:
    """Yield every next hop of a route, with its link."""
    if NEXT_HOPS not in values:
        yield {"gateway": gateway(values), "link": number(values[LINK])}
    rest = values.get(NEXT_HOPS, b"")
    while rest:
        length, link = struct.unpack_from("=HxxI", rest)
        yield {"gateway": gateway(attributes(rest[8:length])), "link": link}
        rest = rest[align(length) :]


def gateway(values: dict[int, bytes]) -> str | None:
    """Return the address of the next hop; in VIA, for a hop of the other family, two bytes of family precede it."""
    data = values.get(GATEWAY) or values.get(VIA, b"")[2:]
    return address(data) if data else None


def number(data: bytes) -> int:
    return int(struct.unpack("=I", data)[0])


def attributes(rest: bytes) -> dict[int, bytes]:
    values = {}
    while len(rest) >= 4:
        length, kind = struct.unpack_from("=HH", rest)
        values[kind] = rest[4:length]
        rest = rest[align(length) :]
    return values


def align(length: int) -> int:
    return (length + 3) & ~3


def nftables_tables() -> list[str]:
    """Return family and name of each table of nftables: ``inet filter``."""
    messages = dump(GET_TABLES, NETFILTER)
    rows = ((message[0], attributes(message[4:]).get(TABLE_NAME, b"")) for message in messages)
    return [f"{FAMILIES.get(family, family)} {name.decode(errors='replace').rstrip(chr(0))}" for family, name in rows]


def dump(request: int, protocol: int = socket.NETLINK_ROUTE) -> list[bytes]:
    """Return the kernel's answer to *request*: its messages without their headers.

    Raises:
        ReadError: the table changed during each of TRIES reads.
    """
    for _ in range(TRIES):
        answer = list(send_request(request, protocol))
        if not any(flags & INTERRUPTED for flags, _ in answer):
            return [message for _, message in answer[:-1]]  # the last message only marks the end
    raise ReadError("the kernel's table changed during each read")


def send_request(request: int, protocol: int) -> Iterator[tuple[int, bytes]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as kernel:
        kernel.settimeout(SECONDS)
        # a header, and a message without a family, which means all families
        kernel.send(struct.pack("=IHHII12x", 28, request, REQUEST | DUMP, 1, 0))
        while True:
            rest = kernel.recv(1 << 16)
            while rest:
                length, kind, flags = struct.unpack_from("=IHH", rest)
                if kind == ERROR:
                    raise OSError(-struct.unpack_from("=i", rest, 16)[0], "netlink")
                yield flags, rest[16:length]
                if kind == DONE:
                    return
                rest = rest[align(length) :]

"""Addresses, routes and hardware's own addresses, from the kernel itself: files do not tell all, and ip starts slowly.

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
"""IFLA_PERM_ADDRESS, of Linux 5.6 and later."""
DESTINATION, LINK, GATEWAY, METRIC, NEXT_HOPS, TABLE, VIA = 1, 4, 5, 6, 9, 15, 18
MAIN, BY_KERNEL, UNICAST, GLOBAL = 254, 2, 1, 0
DEAD = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
LINK_LOCAL = ("169.254.", "fe80:")
BITS = {socket.AF_INET: 32, socket.AF_INET6: 128}


def address(packed: bytes) -> str:
    """Return an address as it is written; one of IPv4 within IPv6 as what it is."""
    if packed.startswith(bytes(10) + b"\xff\xff"):
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def addresses() -> dict[int, list[str]]:
    """Return the addresses of global scope of every link, by its index: ``192.0.2.11/24``.

    Those that IPv6 makes up for some hours to hide behind are nothing that anybody has set.
    """
    found: dict[int, list[str]] = {}
    for message in dump(GET_ADDRESSES):
        family, prefix, flags, scope, link = struct.unpack_from("=BBBBI", message)
        values = attributes(message[8:])
        temporary = family == socket.AF_INET6 and flags & TEMPORARY  # of IPv4 the bit says that it is not the first
        if scope == GLOBAL and not temporary:
            found.setdefault(link, []).append(f"{address(values.get(LOCAL) or values[ADDRESS])}/{prefix}")
    return found


def permanent_macs() -> dict[int, str]:
    """Return the address that the hardware of a link came with, by the link's index; not of links without any."""
    found = {}
    for message in dump(GET_LINKS):
        values = attributes(message[16:])
        if len(values.get(PERMANENT, b"")) == 6:
            found[struct.unpack_from("=4xi", message)[0]] = ":".join(f"{byte:02x}" for byte in values[PERMANENT])
    return found


def routes() -> list[dict[str, Any]]:
    """Return the routes of the main table that somebody or something has set, by the index of their link.

    Left out are those that follow from a link's own addresses, and those that lead nowhere.
    """
    found = []
    for message in dump(GET_ROUTES):
        family, length, _, _, table, protocol, _, sort = struct.unpack_from("=8B", message)
        values = attributes(message[12:])
        table = number(values[TABLE]) if TABLE in values else table
        if (table, sort) == (MAIN, UNICAST) and protocol != BY_KERNEL and family in BITS:
            to = f"{address(values[DESTINATION])}/{length}" if DESTINATION in values else "default"
            if not to.startswith(LINK_LOCAL):
                metric = number(values.get(METRIC, bytes(4)))
                found += [{"destination": to, **hop, "metric": metric} for hop in hops(values)]
    return found


def dead_routes() -> list[dict[str, Any]]:
    """Return the routes of the main table that lead nowhere, except those that the kernel sets itself."""
    found = []
    for message in dump(GET_ROUTES):
        family, length, _, _, table, protocol, _, sort = struct.unpack_from("=8B", message)
        values = attributes(message[12:])
        table = number(values[TABLE]) if TABLE in values else table
        if table == MAIN and sort in DEAD and protocol != BY_KERNEL and family in BITS:
            to = f"{address(values[DESTINATION])}/{length}" if DESTINATION in values else "default"
            through = "::" if family == socket.AF_INET6 else None
            metric = number(values.get(METRIC, bytes(4)))
            found.append({"destination": to, "gateway": through, "kind": DEAD[sort], "metric": metric})
    return found


def hops(values: dict[int, bytes]) -> Iterator[dict[str, Any]]:
    """Yield every way that a route may take."""
    if NEXT_HOPS not in values:
        yield {"gateway": gateway(values), "link": number(values[LINK])}
    rest = values.get(NEXT_HOPS, b"")
    while rest:
        length, link = struct.unpack_from("=HxxI", rest)
        yield {"gateway": gateway(attributes(rest[8:length])), "link": link}
        rest = rest[aligned(length) :]


def gateway(values: dict[int, bytes]) -> str | None:
    """Return the next hop; one of the other family has its family before it."""
    packed = values.get(GATEWAY) or values.get(VIA, b"")[2:]
    return address(packed) if packed else None


def number(packed: bytes) -> int:
    return int(struct.unpack("=I", packed)[0])


def attributes(rest: bytes) -> dict[int, bytes]:
    found = {}
    while len(rest) >= 4:
        length, sort = struct.unpack_from("=HH", rest)
        found[sort] = rest[4:length]
        rest = rest[aligned(length) :]
    return found


def aligned(length: int) -> int:
    return (length + 3) & ~3


def dump(request: int) -> list[bytes]:
    """Return what the kernel answers to *request*, message by message, each without its header."""
    for _ in range(TRIES):
        answer = list(ask(request))
        if not any(flags & INTERRUPTED for flags, _ in answer):
            return [message for _, message in answer[:-1]]  # the last one only says that it is the last
    raise ReadError("the kernel's table changed whenever it was read")


def ask(request: int) -> Iterator[tuple[int, bytes]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(SECONDS)
        # a header, and a message that names no family: of all
        kernel.send(struct.pack("=IHHII12x", 28, request, REQUEST | DUMP, 1, 0))
        while True:
            rest = kernel.recv(1 << 16)
            while rest:
                length, sort, flags = struct.unpack_from("=IHH", rest)
                if sort == ERROR:
                    raise OSError(-struct.unpack_from("=i", rest, 16)[0], "netlink")
                yield flags, rest[16:length]
                if sort == DONE:
                    return
                rest = rest[aligned(length) :]

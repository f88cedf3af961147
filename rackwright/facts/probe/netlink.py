"""Addresses, routes and hardware addresses, read from the kernel over netlink.

Files do not contain all of them, and the command ip starts slowly.
Layouts: include/uapi/linux/netlink.h, rtnetlink.h, if_addr.h and if_link.h of Linux.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Iterator, Union

from rackwright.facts.probe.observe import ReadError

GET_LINKS, GET_ADDRESSES, GET_ROUTES, GET_RULES = 18, 22, 26, 34
REQUEST, DUMP, INTERRUPTED = 0x001, 0x300, 0x010
ERROR, DONE = 2, 3
TRIES = 3
SECONDS = 10

ADDRESS, LOCAL, ADDRESS_FLAGS = 1, 2, 8
TEMPORARY = 0x01
PERMANENT = 54
"""IFLA_PERM_ADDRESS, in Linux 5.6 and later."""
DESTINATION, SOURCE, LINK, GATEWAY, METRIC, NEXT_HOPS, TABLE, VIA = 1, 2, 4, 5, 6, 9, 15, 18
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


UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.EPERM)
"""Answers of the kernel for an address that no route reaches, or that a rule or dead route discards."""
MOST_QUESTIONS = 16384
"""Maximum number of questions to the kernel, which takes some microseconds for each.

A host of a fabric has some dozens of routes and addresses; a node has a route for each pod, and one address on the
links of all pods.
"""
PLACES = {4: ("198.18.0.1", "203.0.113.1", "198.51.100.1", "9.9.9.9"), 6: ("2001:db8::1", "2620:fe::fe")}
"""Addresses for the question about a default route; no packet is sent. Source: RFC 5737, RFC 2544, RFC 3849."""
Network = Union[IPv4Network, IPv6Network]


def chosen_routes() -> dict[str, list[dict[str, Any]]]:
    """Return for each destination of the main table what the kernel chooses for addresses in it, by their links' index.

    A rule may send packets to another table, so that the routes of the main table are right and never used. The
    addresses are the first, the last and one between them, and those that rules name; each is asked about for every
    own address as well. Addresses that a more specific route of the main table has are left out.
    """
    networks = main_networks()
    # one address may be on many links, as on those of all pods of a node
    own: dict[int, dict[str | None, None]] = {4: {None: None}, 6: {None: None}}
    for texts in addresses().values():
        for text in texts:
            own[4 if "." in text else 6][text.partition("/")[0]] = None
    named = rule_destinations()
    chosen: dict[str, list[dict[str, Any]]] = {}
    asked = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(SECONDS)
        for network in sorted({route for route, is_configured in networks if is_configured}, key=str):
            narrower = [other for other, _ in networks if is_within(other, network) and other != network]
            answers: dict[tuple[str | None, int], dict[str, Any]] = {}
            for target in targets(network, narrower, named):
                for source in own[network.version]:
                    asked += 1
                    if asked > MOST_QUESTIONS:
                        raise ReadError(f"more than {MOST_QUESTIONS} questions about routes")
                    gateway_, link = ask_route(kernel, target, source)
                    answers.setdefault((gateway_, link), {"gateway": gateway_, "link": link, "to": target})
            chosen[str(network)] = list(answers.values())
    return chosen


def main_networks() -> list[tuple[Network, bool]]:
    """Return the destinations of all routes of the main table, and whether each is configured, not the kernel's own."""
    rows: list[tuple[Network, bool]] = []
    for message in dump(GET_ROUTES):
        family, length, _, _, table, protocol, _, kind = struct.unpack_from("=8B", message)
        values = attributes(message[12:])
        table = number(values[TABLE]) if TABLE in values else table
        if table == MAIN and family in BITS:
            base = address(values.get(DESTINATION, bytes(BITS[family] // 8)))
            if not base.startswith(LINK_LOCAL):
                rows.append((ip_network(f"{base}/{length}"), protocol != KERNEL and kind == UNICAST))
    return rows


def rule_destinations() -> list[str]:
    """Return the first address of each destination that a rule of policy routing names."""
    values = (attributes(message[12:]).get(DESTINATION) for message in dump(GET_RULES))
    return [address(value) for value in values if value]


def targets(network: Network, narrower: list[Network], named: list[str]) -> list[str]:
    """Return the addresses in *network* to ask about, without those of *narrower* networks.

    A rule for one destination is none of a default route, as a more specific route is not.
    """
    if network.prefixlen == 0:
        return [text for text in PLACES[network.version] if not any(ip_address(text) in each for each in narrower)]
    if network.num_addresses <= 2:
        places = [network[0]]
    else:
        places = [network[1], network[network.num_addresses // 2], network[-2]]
    places += [ip_address(text) for text in named if ip_address(text).version == network.version]
    return [
        str(place)
        for place in dict.fromkeys(places)
        if place in network and not any(place in each for each in narrower)
    ]


def is_within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.prefixlen >= outer.prefixlen and inner[0] in outer


def ask_route(kernel: socket.socket, target: str, source: str | None) -> tuple[str | None, int]:
    """Return gateway and link of the route that the kernel takes to *target*; link 0 for none."""
    place = ip_address(target)
    family = socket.AF_INET if place.version == 4 else socket.AF_INET6
    wanted = [(DESTINATION, place.packed), *([(SOURCE, ip_address(source).packed)] if source else [])]
    body = struct.pack("=8BI", family, place.max_prefixlen, place.max_prefixlen if source else 0, *[0] * 5, 0)
    for kind, data in wanted:
        body += struct.pack("=HH", 4 + len(data), kind) + data
    kernel.send(struct.pack("=IHHII", 16 + len(body), GET_ROUTES, REQUEST, 1, 0) + body)
    answer = kernel.recv(1 << 16)
    _, kind = struct.unpack_from("=IH", answer)
    if kind == ERROR:
        code = -struct.unpack_from("=i", answer, 16)[0]
        if code in UNREACHABLE:
            return None, 0
        raise OSError(code, f"netlink, about the route to {target}")
    values = attributes(answer[28 : struct.unpack_from("=I", answer)[0]])
    return gateway(values), number(values[LINK]) if LINK in values else 0


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


ALL_FAMILIES = bytes(12)
"""A message without a family, which means all families."""


def dump(request: int, protocol: int = socket.NETLINK_ROUTE, body: bytes = ALL_FAMILIES) -> list[bytes]:
    """Return the kernel's answer to *request* with *body*: its messages without their headers.

    Raises:
        ReadError: the table changed during each of TRIES reads.
    """
    for _ in range(TRIES):
        answer = list(send_request(request, protocol, body))
        if not any(flags & INTERRUPTED for flags, _ in answer):
            return [message for _, message in answer[:-1]]  # the last message only marks the end
    raise ReadError("the kernel's table changed during each read")


def send_request(request: int, protocol: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as kernel:
        kernel.settimeout(SECONDS)
        kernel.send(struct.pack("=IHHII", 16 + len(body), request, REQUEST | DUMP, 1, 0) + body)
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

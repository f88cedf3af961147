"""Everything beside the configured routes that decides where packets go, read from the kernel over netlink.

Each list has only what the kernel does not make by itself, so that it is empty on an unchanged host.
Layouts: include/uapi/linux/fib_rules.h, rtnetlink.h, neighbour.h, pkt_sched.h, if_link.h and xfrm.h of Linux.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Iterator

from rackwright.facts.probe import bpf_programs, kernel, netlink
from rackwright.facts.probe.netlink import BITS, DESTINATION, KERNEL, LINK, MAIN, SOURCE, TABLE, UNICAST
from rackwright.facts.probe.network import link_names
from rackwright.facts.probe.observe import ReadError, attempt, listing, read

MOST_ROWS = 512
"""Maximum number of rows of a list: what comes on top of them is counted and not described."""

RULE_NUMBERS = {
    6: "priority", 4: "goto", 10: "fwmark", 16: "fwmask", 11: "realm", 13: "suppress_ifgroup", 14: "suppress_prefix",
    15: "table",
}  # fmt: skip
PRIORITY, IIF, OIF, TUNNEL, L3MDEV, UIDS, IP_PROTOCOL, SPORT, DPORT = 6, 3, 17, 12, 19, 20, 22, 23, 24
ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
INVERT = 2
ALL_BITS = 0xFFFFFFFF
SUPPRESSIONS = ("suppress_ifgroup", "suppress_prefix")
KERNEL_RULES: dict[int, set[str]] = {
    socket.AF_INET: {"0: from all lookup 255", "32766: from all lookup 254", "32767: from all lookup 253"},
    socket.AF_INET6: {"0: from all lookup 255", "32766: from all lookup 254"},
}
"""The rules that the kernel makes at its start, by family. Source: net/ipv4/fib_rules.c, net/ipv6/fib6_rules.c."""
LOCAL_TABLE, DEFAULT_TABLE = 255, 253
TABLES = {MAIN: "the main table", LOCAL_TABLE: "the table local", DEFAULT_TABLE: "the table default"}
"""The tables that the kernel's own rules name."""
KINDS = {
    1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast", 6: "blackhole", 7: "unreachable",
    8: "prohibit", 9: "throw", 10: "nat",
}  # fmt: skip
LOOPBACK = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))
BY_ITSELF = tuple(map(ip_network, ("fe80::/10", "ff00::/8", "224.0.0.0/4")))
"""Destinations for which the kernel makes routes on each link."""
GET_NEIGHBOURS, GET_QDISCS, GET_FILTERS, GET_STATES, GET_POLICIES = 30, 38, 46, 0x12, 0x15
PERMANENT, PROXY = 0x80, 0x08
NEIGHBOUR_ADDRESS, NEIGHBOUR_MAC = 1, 2
BROADCAST = 4
CACHE_INFO = 12
"""RTA_CACHEINFO, whose third number is the end of a route."""
KIND = 1
DEFAULT_QDISCS = ("noqueue", "pfifo_fast", "mq", "fq_codel", "fq", "pfifo", "sfq", "cake", "fq_pie", "pfifo_head_drop")
"""Queues that net.core.default_qdisc may name; those that the kernel makes have the number 0."""
INFO, LOWER, XDP, NAME = 18, 5, 43, 3
IFF_UP, IFF_NOARP, IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST, IFF_LOOPBACK = 1, 0x80, 0x100, 0x200, 0x1000, 8
XFRM = getattr(socket, "NETLINK_XFRM", 6)
DIRECTIONS = {0: "in", 1: "out", 2: "forward"}
NESTED = 0x3FFF
"""Bits of a type of attribute without those that mark a nested one."""
MISSING_FEATURE = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT)


def attributes(rest: bytes) -> dict[int, bytes]:
    return {kind & NESTED: data for kind, data in netlink.attributes(rest).items()}


def first_rows(rows: list[str]) -> list[str]:
    """Return at most MOST_ROWS of *rows*, and the number of the others."""
    more = [f"and {len(rows) - MOST_ROWS} more"] if len(rows) > MOST_ROWS else []
    return rows[:MOST_ROWS] + more


def routing_rules(root: str) -> list[str]:
    """Return the rules of policy routing that the kernel does not make, and those of its own that are missing."""
    found: dict[int, list[str]] = {family: [] for family in KERNEL_RULES}
    for message in netlink.dump(netlink.GET_RULES):
        if message[0] in found:
            found[message[0]].append(rule(message))
    rows = []
    for family, texts in found.items():
        if family == socket.AF_INET6 and not has_ipv6(root):
            continue
        name = "IPv6" if family == socket.AF_INET6 else "IPv4"
        expected = set(KERNEL_RULES[family])
        for text in texts:
            if text in expected:
                expected.remove(text)  # a second one with the same text is none of the kernel's
            else:
                rows.append(f"{name} {text}")
        rows += [f"{name} {text}, which is missing" for text in sorted(expected)]
    return first_rows(rows)


def has_ipv6(root: str) -> bool:
    return os.path.exists(f"{root}/proc/net/if_inet6")


def rule(message: bytes) -> str:
    """Return a rule in the words of ip-rule(8), its table by number."""
    _, destination_bits, source_bits, tos, table, _, _, action, flags = struct.unpack_from("=8BI", message)
    values = attributes(message[12:])
    numbers = {name: netlink.number(values[key]) for key, name in RULE_NUMBERS.items() if key in values}
    words = [f"{numbers.pop('priority', 0)}:"]
    words += ["not"] if flags & INVERT else []
    words += [f"from {netlink.address(values[SOURCE])}/{source_bits}" if SOURCE in values else "from all"]
    words += [f"to {netlink.address(values[DESTINATION])}/{destination_bits}"] if DESTINATION in values else []
    words += [f"tos {tos:#x}"] if tos else []
    for key, name in ((IIF, "iif"), (OIF, "oif")):
        words += [f"{name} {values[key].rstrip(bytes(1)).decode(errors='replace')}"] if key in values else []
    if UIDS in values:
        words.append("uid {}-{}".format(*struct.unpack_from("=II", values[UIDS])))
    if IP_PROTOCOL in values:
        words.append(f"protocol {values[IP_PROTOCOL][0]}")
    for key, name in ((SPORT, "sport"), (DPORT, "dport")):
        words += ["{} {}-{}".format(name, *struct.unpack_from("=HH", values[key]))] if key in values else []
    words += ["tunnel"] if values.get(TUNNEL, bytes(8)).strip(b"\0") else []
    words += ["l3mdev"] if values.get(L3MDEV, b"\0") != b"\0" else []
    table = numbers.pop("table", table)
    words += [
        f"{name} {number}"
        for name, number in numbers.items()
        if number and name != "goto" and not (name in ("fwmask", *SUPPRESSIONS) and number == ALL_BITS)
    ]
    act = ACTIONS.get(action, f"action {action}")
    words.append(f"{act} {table}" if act == "lookup" else f"{act} {numbers.get('goto', '')}".rstrip())
    return " ".join(words)


def odd_routes(root: str) -> dict[str, str]:
    """Return the routes that no address of a link explains, and that the list of configured routes does not have.

    Those are all of the table default, those of the table local for addresses that no link has, those of the main table
    that deliver, discard or pass on, and those of it with the kernel's mark that are none of its own. A name is table
    and destination.
    """
    names = link_names(root)
    own = own_addresses()
    rows: dict[str, str] = {}
    for message in netlink.dump(netlink.GET_ROUTES):
        family, length, _, _, table, protocol, _, kind = struct.unpack_from("=8B", message)
        values = attributes(message[12:])
        table = netlink.number(values[TABLE]) if TABLE in values else table
        if family not in BITS or table not in TABLES:
            continue
        base = netlink.address(values.get(DESTINATION, bytes(BITS[family] // 8)))
        network = ip_network(f"{base}/{length}", strict=False)
        link = netlink.number(values[LINK]) if LINK in values else 0
        if table == MAIN and kind == UNICAST:
            gateway = netlink.gateway(values)
            is_odd = protocol == KERNEL and (gateway is not None or not is_on_link(network, own.get(link, [])))
            is_odd = is_odd and not is_announced(network, gateway, values)
        elif table == DEFAULT_TABLE:
            gateway, is_odd = netlink.gateway(values), True
        elif table == MAIN:
            is_odd = protocol != KERNEL and not is_claimed_elsewhere(kind)
            gateway = None
        else:
            gateway = netlink.gateway(values)
            is_odd = not is_explained(network, KINDS.get(kind, ""), own, link)
        if is_odd and not any(netlink.is_within(network, each) for each in BY_ITSELF):
            place = TABLES[table]
            hop = f" via {gateway}" if gateway else ""
            rows[f"{network} of {place}"] = f"{KINDS.get(kind, kind)}{hop} on {names.get(link, 'no link')}"
        if len(rows) > MOST_ROWS:
            raise ReadError(f"more than {MOST_ROWS} routes that no address explains")
    return rows


def is_announced(network: Any, gateway: str | None, values: dict[int, bytes]) -> bool:
    """Return whether a router may have announced that a network is on the link: such a route has an end."""
    expires = struct.unpack_from("=i", values[CACHE_INFO], 8)[0] if len(values.get(CACHE_INFO, b"")) >= 12 else 0
    return network.version == 6 and network.prefixlen <= 64 and gateway is None and bool(expires > 0)


def is_claimed_elsewhere(kind: int) -> bool:
    """Return whether routes of this kind are in the list of those that discard packets."""
    return kind in netlink.DEAD


def own_addresses() -> dict[int, list[Any]]:
    """Return all addresses of each link with their networks, by the link's index; that of a peer counts as well."""
    by_link: dict[int, list[Any]] = {}
    for message in netlink.dump(netlink.GET_ADDRESSES):
        _, prefix, _, _, link = struct.unpack_from("=BBBBI", message)
        values = attributes(message[8:])
        if BROADCAST in values:  # an address of its own: the kernel takes any that was given
            by_link.setdefault(link, []).append(ip_interface(netlink.address(values[BROADCAST])))
        for key in (netlink.LOCAL, netlink.ADDRESS):
            if key in values:
                by_link.setdefault(link, []).append(ip_interface(f"{netlink.address(values[key])}/{prefix}"))
    return by_link


def is_on_link(network: Any, addresses: list[Any]) -> bool:
    """Return whether the kernel makes a route to *network* on a link with these *addresses*."""
    return any(network in (each.network, ip_network(each.ip)) for each in addresses)


def is_explained(network: Any, kind: str, own: dict[int, list[Any]], link: int) -> bool:
    """Return whether an address explains a route of the table local."""
    everywhere = [each for addresses in own.values() for each in addresses]
    if any(netlink.is_within(network, each) for each in LOOPBACK):
        return True
    if kind in ("local", "anycast"):
        # of IPv6 also the first address of each network, which a router answers
        return any(network in (ip_network(each.ip), ip_network(each.network[0])) for each in everywhere)
    if kind == "broadcast":
        ends = (place for each in own.get(link, []) for place in (each.network[0], each.network[-1]))
        return any(network == ip_network(place) for place in ends) or str(network) == "255.255.255.255/32"
    return False


def fixed_neighbours(root: str) -> dict[str, str]:
    """Return the neighbours with a fixed address, and those that a link answers for: ``ADDRESS on LINK`` and why."""
    names = link_names(root)
    rows: dict[str, str] = {}
    for flags in (0, PROXY):
        for message in netlink.dump(GET_NEIGHBOURS, body=struct.pack("=BxHiHBB", 0, 0, 0, 0, flags, 0)):
            family, link, state, own_flags, _ = struct.unpack_from("=B3xiHBB", message)
            values = attributes(message[12:])
            if family not in BITS or NEIGHBOUR_ADDRESS not in values:
                continue
            is_proxy = bool(own_flags & PROXY)
            if is_proxy or state & PERMANENT:
                mac = values.get(NEIGHBOUR_MAC, b"").hex(":")
                text = "the link answers for it" if is_proxy else f"fixed to {mac or 'no address'}"
                rows[f"{netlink.address(values[NEIGHBOUR_ADDRESS])} on {names.get(link, 'no link')}"] = text
            if len(rows) > MOST_ROWS:
                raise ReadError(f"more than {MOST_ROWS} fixed neighbours")
    return rows


def link_states(root: str) -> dict[str, list[str]]:
    """Return for each link whether it is up, the kernel's word for its kind, its lower link, and its odd flags."""
    names = link_names(root)
    rows = {}
    for message in netlink.dump(netlink.GET_LINKS):
        flags = struct.unpack_from("=I", message, 8)[0]
        values = attributes(message[16:])
        kind = attributes(values.get(INFO, b"")).get(KIND, b"").rstrip(b"\0").decode(errors="replace")
        words = ["up"] if flags & IFF_UP else []
        words += [f"kind {kind}"] if kind else []
        if LOWER in values and netlink.number(values[LOWER]) in names:
            words.append(f"above {names[netlink.number(values[LOWER])]}")
        if not flags & IFF_LOOPBACK:
            words += ["noarp"] if flags & IFF_NOARP else []
            words += ["promiscuous"] if flags & IFF_PROMISC else []
            words += ["all multicast"] if flags & IFF_ALLMULTI else []
            words += [] if flags & IFF_MULTICAST else ["no multicast"]
        attached = attributes(values.get(XDP, b"")).get(2, b"\0")
        words += ["a program of XDP"] if attached != b"\0" else []
        rows[values.get(NAME, b"").rstrip(b"\0").decode(errors="replace")] = words
    return rows


def traffic_control(root: str) -> dict[str, list[str]]:
    """Return for each link its queues, filters and programs of BPF that the kernel has not made by itself."""
    names = link_names(root)
    rows: dict[str, list[str]] = {}
    for message in netlink.dump(GET_QDISCS, body=bytes(20)):
        link, handle, parent = struct.unpack_from("=4xiII", message)
        kind = kind_of(message)
        if handle or kind not in DEFAULT_QDISCS:
            where = {0xFFFFFFFF: "root", 0xFFFFFFF1: "ingress"}.get(parent, f"below {parent:x}")
            rows.setdefault(names.get(link, "?"), []).append(f"{kind} {where}")
    for index, name in sorted(names.items())[:MOST_ROWS]:
        for message in netlink.dump(GET_FILTERS, body=struct.pack("=4xiIII", index, 0, 0, 0)):
            text = f"filter {kind_of(message)}"
            if text not in rows.setdefault(name, []):
                rows[name].append(text)
    for name, texts in bpf_programs.programs(root, names).items():
        rows.setdefault(name, []).extend(texts)
    return {name: first_rows(texts) for name, texts in rows.items() if texts}


def kind_of(message: bytes) -> str:
    return attributes(message[20:]).get(KIND, b"").rstrip(b"\0").decode(errors="replace")


def ipsec(root: str) -> list[str]:
    """Return the policies and states of IPsec; a kernel without its part of IPsec has none."""
    if not has_module(root, "xfrm_user"):
        return []
    try:
        policies = netlink.dump(GET_POLICIES, XFRM, b"")
        states = netlink.dump(GET_STATES, XFRM, b"")
    except OSError as error:
        if error.errno in MISSING_FEATURE:
            return []
        raise
    rows = [policy(message) for message in policies]
    return first_rows(sorted({*rows, *(state(message) for message in states)}))


SELECTOR = "=16s16sHHHHHBBBxxxiI"
"""Destination, source, four ports, family, both lengths, protocol, link and account. Source: struct xfrm_selector."""
POLICY_DIRECTION, POLICY_ACTION = 160, 161
STATE_ID = 56
"""Places in struct xfrm_userpolicy_info and struct xfrm_usersa_info."""


def policy(message: bytes) -> str:
    destination, source, _, _, _, _, family, bits, source_bits, *_ = struct.unpack_from(SELECTOR, message)
    act = "block" if message[POLICY_ACTION] else "allow"
    way = DIRECTIONS.get(message[POLICY_DIRECTION], "socket")
    return f"policy {way} {end(source, family, source_bits)} to {end(destination, family, bits)} {act}"


def state(message: bytes) -> str:
    """Return a state; its family stands behind the times and counters in the second half of the structure."""
    family = struct.unpack_from("=H", message, STATE_FAMILY)[0]
    target, source = message[STATE_ID : STATE_ID + 16], message[STATE_ID + 24 : STATE_ID + 40]
    return f"state {end(source, family)} to {end(target, family)}"


STATE_FAMILY = 212


def end(data: bytes, family: int, bits: int | None = None) -> str:
    """Return an end of a policy or a state, in the one or the other family."""
    size = 4 if family == socket.AF_INET else 16
    return str(ip_address(data[:size])) + ("" if bits is None else f"/{bits}")


def has_module(root: str, name: str) -> bool:
    """Return whether the kernel has a module; a socket of its protocol would load it."""
    if os.path.isdir(f"{root}/sys/module/{name}"):
        return True
    loaded, builtin = attempt(kernel.modules, root), attempt(kernel.modules_builtin, root)
    if isinstance(loaded, list) and name in loaded:
        return True
    return name in builtin if isinstance(builtin, list) else True


def virtual_servers(root: str) -> list[str]:
    """Return the addresses that the kernel balances over others; a kernel without that part has no such file."""
    path = f"{root}/proc/net/ip_vs"
    if not os.path.exists(path):
        return []
    lines = (line.split() for line in read(path).splitlines()[3:])
    return first_rows([" ".join(words[:2]) for words in lines if words and words[0] in ("TCP", "UDP", "SCTP", "FWM")])


DEFAULTS = {
    "ipv4": {
        "accept_local": "0", "arp_accept": "0", "arp_announce": "0", "arp_filter": "0", "arp_ignore": "0",
        "bc_forwarding": "0", "disable_policy": "0", "disable_xfrm": "0", "forwarding": "0",
        "ignore_routes_with_linkdown": "0", "mc_forwarding": "0", "proxy_arp": "0", "proxy_arp_pvlan": "0",
        "route_localnet": "0", "src_valid_mark": "0",
    },
    "ipv6": {
        "accept_source_route": "0", "accept_untracked_na": "0", "disable_policy": "0", "forwarding": "0",
        "force_forwarding": "0", "ignore_routes_with_linkdown": "0", "mc_forwarding": "0", "proxy_ndp": "0",
        "rpl_seg_enabled": "0", "seg6_enabled": "0", "use_oif_addrs_only": "0",
    },
}  # fmt: skip
"""Settings of links that divert packets, with the kernel's own value. Source: Linux, ip-sysctl.rst."""
LOOPBACK_ITSELF = ("disable_policy", "disable_xfrm")
"""Settings that are 1 on the link lo from the start. Source: net/ipv4/devinet.c, inetdev_init."""
ALONE = {
    "net.ipv4.ip_forward": "0", "net.ipv4.ip_nonlocal_bind": "0", "net.ipv6.ip_nonlocal_bind": "0",
    "net.ipv4.fwmark_reflect": "0", "net.ipv6.fwmark_reflect": "0", "net.ipv4.tcp_fwmark_accept": "0",
    "net.ipv4.fib_multipath_hash_policy": "0", "net.ipv6.fib_multipath_hash_policy": "0",
    "net.ipv4.ip_default_ttl": "64", "net.ipv4.icmp_echo_ignore_all": "0", "net.ipv4.tcp_l3mdev_accept": "0",
    "net.ipv4.udp_l3mdev_accept": "0", "net.ipv4.raw_l3mdev_accept": "1",
}  # fmt: skip
MOST_LINKS = 1024


def diverting_settings(root: str) -> dict[str, str]:
    """Return the settings of the kernel that lead packets elsewhere and have another value than the kernel's own."""
    found = {}
    for family, defaults in DEFAULTS.items():
        folder = f"{root}/proc/sys/net/{family}/conf"
        names = listing(folder)
        if len(names) > MOST_LINKS:
            raise ReadError(f"more than {MOST_LINKS} links")
        for name in names:
            for setting, default in defaults.items():
                is_of_loopback = name == "lo" and setting in LOOPBACK_ITSELF
                value = None if is_of_loopback else setting_of(f"{folder}/{name}/{setting}")
                if value not in (None, default):
                    found[f"net.{family}.conf.{name.replace('.', '/')}.{setting}"] = str(value)
    for key, default in ALONE.items():
        value = setting_of(f"{root}/proc/sys/{key.replace('.', '/')}")
        if value not in (None, default):
            found[key] = str(value)
    return found


def setting_of(path: str) -> str | None:
    """Return a setting; None for one that this kernel does not have, or whose link has just gone."""
    try:
        return read(path)
    except FileNotFoundError:
        return None


SETTING_FOLDERS = ("/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")
LINE = re.compile(r"^\s*-?\s*(net[./][^\s=]+)\s*=\s*(.*?)\s*$", re.M)


def configured_settings(root: str) -> dict[str, list[str]]:
    """Return the values that files of sysctl.d give to settings of the network, by name or pattern."""
    paths = [f"{folder}/{name}" for folder in SETTING_FOLDERS for name in listing(root + folder, "*.conf")]
    found: dict[str, list[str]] = {}
    for path in (*paths, "/etc/sysctl.conf"):
        for key, value in settings_in(root + path):
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return found


def settings_in(path: str) -> Iterator[tuple[str, str]]:
    """Yield the settings of the network in a file, with dots between the parts of their names, as sysctl(8) shows."""
    if not os.path.isfile(path):
        return
    for key, value in LINE.findall(read(path)):
        first = key[key.find(".")] if "." in key and ("/" not in key or key.find(".") < key.find("/")) else "/"
        yield (key if first == "." else key.translate(kernel.DOTS_FOR_SLASHES)), value


READERS = {
    "routing_rules": routing_rules,
    "odd_routes": odd_routes,
    "fixed_neighbours": fixed_neighbours,
    "link_states": link_states,
    "traffic_control": traffic_control,
    "ipsec": ipsec,
    "virtual_servers": virtual_servers,
    "diverting_settings": diverting_settings,
    "configured_settings": configured_settings,
}
"""The readers of these facts, by the name of each."""

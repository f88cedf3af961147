"""Changes of where packets go, made by ip and tc in a network namespace, and what the rules find of them."""

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

from rackwright.audit.undeclared.declaration import HostDeclaration
from rackwright.audit.undeclared.rule import Finding
from rackwright.audit.undeclared.search import apply
from rackwright.audit.undeclared.table import RULES
from rackwright.facts.facts import Facts
from tests.support.converged_host import converged, declared

READ = """
import ctypes, json, os, subprocess, sys
from rackwright.facts.probe import network, packet_paths
from rackwright.facts.probe.observe import attempt
readers = {**packet_paths.READERS, "links": network.links, "routes": network.routes, "dead_routes": network.dead_routes}
setup, changes = json.load(sys.stdin)
for change in changes:
    if not os.fork():
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000 | 0x20000):
            os._exit(7)
        done = subprocess.run(["sh", "-ec", setup + change], capture_output=True, text=True)
        facts = {name: attempt(reader, "") for name, reader in readers.items()}
        print(json.dumps({"error": done.stderr} if done.returncode else facts), flush=True)
        os._exit(0)
    os.wait()
"""
"""Each change is made in a network namespace of its own, by one program: an interpreter for each would take minutes."""
SET_UP = """
mount --make-rprivate /
mount -t sysfs sysfs /sys
ip link set lo up
ip link add fabric0 type veth peer name far0; ip link add eth9 type veth peer name far9
ip link set far0 up; ip link set far9 up
ip address add 10.32.0.1/24 dev fabric0; ip address add 192.0.2.1/24 dev eth9
ip -6 address add fd41::11/64 dev fabric0 nodad
ip link set fabric0 up; ip link set eth9 up
ip route add 198.51.100.0/24 via 10.32.0.254
ip route add default via 192.0.2.254
"""
"""The host of `converged_host.declared`, with its link, its route and the link at which rackwright logs in."""
IDS = ("RW-052", "RW-142", "RW-143", "RW-144", "RW-145", "RW-146", "RW-147")
DIVERTED = {
    "a rule for an account": ("RW-142", "ip rule add uidrange 1000-1000 lookup 100"),
    "a rule for a mark": ("RW-142", "ip rule add fwmark 7 lookup 100"),
    "a rule for a port": ("RW-142", "ip rule add ipproto tcp dport 443 lookup 100"),
    "a rule of IPv6 for a port": ("RW-142", "ip -6 rule add sport 22 lookup 100"),
    "a rule for a link": ("RW-142", "ip rule add iif fabric0 lookup 100"),
    "a rule for a type of service": ("RW-142", "ip rule add tos 0x10 lookup 100"),
    "a rule for a source": ("RW-142", "ip -6 rule add from fd41::11 lookup 100"),
    "a rule that discards": ("RW-142", "ip rule add to 203.0.113.9 prohibit"),
    "a second rule like the kernel's": ("RW-142", "ip rule add pref 7 lookup local"),
    "a rule of the kernel is gone": ("RW-142", "ip rule del pref 32767"),
    "a rule of IPv6 is gone": ("RW-142", "ip -6 rule add pref 32765 lookup main; ip -6 rule del pref 32766"),
    "a neighbour's address in the table local": ("RW-143", "ip route add local 10.32.0.9 dev lo table local"),
    "a network in the table local": ("RW-143", "ip route add local 198.51.100.0/28 dev lo table local proto kernel"),
    "a short part with the kernel's mark": ("RW-143", "ip -6 route add fd41::/80 dev far9 proto kernel expires 600"),
    "an address of IPv6 in the table local": ("RW-143", "ip -6 route add local fd41::9 dev lo table local"),
    "a route with the kernel's mark": ("RW-143", "ip route add 198.51.100.7 via 10.32.0.9 proto kernel"),
    "a route on a link with the kernel's mark": ("RW-143", "ip route add 198.51.100.0/25 dev far9 proto kernel"),
    "a route of the table default": ("RW-143", "ip route add 203.0.113.0/24 via 192.0.2.9 table default"),
    "a part of a route over another link": ("RW-143", "ip route add 198.51.100.0/25 via 192.0.2.9"),
    "a part of a link's network over another link": ("RW-143", "ip route add 10.32.0.128/25 via 192.0.2.9"),
    "a part of it by an address": ("RW-143", "ip address add 10.32.0.200/28 dev far9"),
    "a part that is discarded": ("RW-143", "ip route add blackhole 198.51.100.7"),
    "a part that is thrown": ("RW-143", "ip route add throw 198.51.100.8/29"),
    "a fixed neighbour": ("RW-144", "ip neigh add 10.32.0.9 lladdr 52:54:00:00:00:09 dev fabric0 nud permanent"),
    "a fixed neighbour of IPv6": (
        "RW-144",
        "ip -6 neigh add fd41::9 lladdr 52:54:00:00:00:09 dev fabric0 nud permanent",
    ),
    "a neighbour of the way out": (
        "RW-144",
        "ip neigh add 192.0.2.254 lladdr 52:54:00:00:00:09 dev eth9 nud permanent",
    ),
    "an address for which the link answers": ("RW-144", "ip neigh add proxy 10.32.0.77 dev fabric0"),
    "an address of IPv6 for which it answers": ("RW-144", "ip -6 neigh add proxy fd41::77 dev fabric0"),
    "no neighbours": ("RW-145", "ip link set fabric0 arp off"),
    "packets of others": ("RW-145", "ip link set fabric0 promisc on"),
    "no multicast": ("RW-145", "ip link set fabric0 multicast off"),
    "all multicast": ("RW-145", "ip link set fabric0 allmulticast on"),
    "a second name on a link": (
        "RW-145",
        "ip link add link fabric0 name x0 type macvlan mode bridge; ip link set x0 up",
    ),
    "a tunnel": ("RW-145", "ip link add x0 type vxlan id 7 remote 10.32.0.9 dstport 4789; ip link set x0 up"),
    "a link of a program": ("RW-145", "ip tuntap add x0 mode tun; ip link set x0 up"),
    "a queue that holds back": ("RW-146", "tc qdisc add dev fabric0 root tbf rate 1mbit burst 10k latency 50ms"),
    "a place for filters": ("RW-146", "tc qdisc add dev fabric0 clsact"),
    "a place for filters of arrivals": ("RW-146", "tc qdisc add dev fabric0 ingress"),
    "a policy": ("RW-146", "ip xfrm policy add src 10.32.0.0/24 dst 198.51.100.0/24 dir out action block"),
    "a policy of IPv6": ("RW-146", "ip xfrm policy add src fd41::/64 dst fd99::/64 dir in action block"),
    "packets from own addresses": ("RW-147", "echo 1 > /proc/sys/net/ipv4/conf/fabric0/accept_local"),
    "loopback from outside": ("RW-147", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"),
    "answers for others": ("RW-147", "echo 1 > /proc/sys/net/ipv4/conf/fabric0/proxy_arp"),
    "answers for others of IPv6": ("RW-147", "echo 1 > /proc/sys/net/ipv6/conf/fabric0/proxy_ndp"),
    "answers for some addresses": ("RW-147", "echo 8 > /proc/sys/net/ipv4/conf/fabric0/arp_ignore"),
    "a router": ("RW-147", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    "a router of IPv6": ("RW-147", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"),
    "addresses of others": ("RW-147", "echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind"),
    "silence": ("RW-147", "echo 1 > /proc/sys/net/ipv4/icmp_echo_ignore_all"),
}
"""The rule that finds each change."""
REMEDIES = {
    "a rule for an account": "ip rule del uidrange 1000-1000 lookup 100",
    "a rule of the kernel is gone": "ip rule add pref 32767 lookup default",
    "a network in the table local": "ip route del local 198.51.100.0/28 table local",
    "a part of a route over another link": "ip route del 198.51.100.0/25",
    "a part that is discarded": "ip route del blackhole 198.51.100.7",
    "a fixed neighbour": "ip neigh del 10.32.0.9 dev fabric0",
    "an address for which the link answers": "ip neigh del proxy 10.32.0.77 dev fabric0",
    "no neighbours": "ip link set fabric0 arp on",
    "packets of others": "ip link set fabric0 promisc off",
    "a second name on a link": "ip link del x0",
    "a queue that holds back": "tc qdisc del dev fabric0 root",
    "a place for filters": "tc qdisc del dev fabric0 clsact",
    "a policy": "ip xfrm policy flush",
    "packets from own addresses": "sysctl -qw net.ipv4.conf.fabric0.accept_local=0",
    "a router": "sysctl -qw net.ipv4.ip_forward=0",
}
"""The remedy of the rule that finds a change, as a person types it."""
SILENT = {
    "nothing": "true",
    "a route of another table": "ip route add 198.51.100.0/25 via 192.0.2.9 table 100",
    "a network that is not declared": "ip route add 203.0.113.0/24 via 192.0.2.9",
    "a bridge with containers": "ip link add br0 type bridge; ip link set br0 up; ip address add 172.17.0.1/16 dev br0",
    "a second address of a link": "ip address add 10.32.0.7/24 dev fabric0",
    "an address without a network": "ip address add 10.44.0.7/32 dev fabric0; ip -6 address add fd44::7 dev fabric0",
    "an address with a peer": "ip address add 10.45.0.1 peer 10.45.0.2 dev far9",
    "another address of a broadcast": "ip address add 10.46.0.7/24 broadcast 10.46.0.99 dev far9",
    "a network that a router announced": "ip -6 route add fd47::/64 dev far9 proto kernel expires 600",
    "a neighbour that was asked for": "ip neigh add 10.32.0.9 lladdr 52:54:00:00:00:09 dev fabric0 nud reachable",
    "a link that is off": "ip link add link fabric0 name x0 type macvlan mode bridge",
    "a queue that came and went": "tc qdisc add dev fabric0 clsact; tc qdisc del dev fabric0 clsact",
    "redirects are refused": "echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects",
    "a filter of reverse paths": "echo 2 > /proc/sys/net/ipv4/conf/all/rp_filter",
}


def facts_after(changes: Iterable[str]) -> list[dict[str, Any]]:
    """Return the raw facts of a converged host after each of *changes*."""
    argv = [sys.executable, "-c", READ]
    texts = [*changes]
    done = subprocess.run(argv, input=json.dumps([SET_UP, texts]), capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(texts), done.stderr
    assert not [each["error"] for each in answers if "error" in each]
    return [{**converged(), **answer} for answer in answers]


def found(raw: dict[str, Any], declaration: HostDeclaration | None = None) -> dict[str, list[Finding]]:
    """Return what the rules about packets find, by rule; what is unknown is a finding as well."""
    rows = {id: [each for each, _ in apply(RULES[id], Facts(raw), declaration or declared())] for id in IDS}
    return {id: findings for id, findings in rows.items() if findings}

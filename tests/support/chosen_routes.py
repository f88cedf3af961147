"""The kernel is asked which route it takes, in a network namespace with rules that lead elsewhere."""

import json
import subprocess
import sys
from collections.abc import Iterable

from rackwright.facts.facts import Facts
from rackwright.kinds.network.observe import format_route

READ = "import json; from rackwright.facts.probe import network; print(json.dumps(network.chosen_routes('')))"
SET_UP = """
set -e
mount -t sysfs sysfs /sys
ip link set lo up
ip link add fabric0 type veth peer name far0; ip link add fabric1 type veth peer name far1
ip link set far0 up; ip link set far1 up
ip address add 10.41.0.11/24 dev fabric0; ip address add 10.42.0.11/24 dev fabric1
ip -6 address add fd41::11/64 dev fabric0 nodad; ip -6 address add fd42::11/64 dev fabric1 nodad
ip link set fabric0 up; ip link set fabric1 up
ip route add 10.99.0.0/24 via 10.41.0.1
ip -6 route add fd99::/64 via fd41::1
ip route add default via 10.42.0.1 metric 500
ip route add 10.99.0.0/24 via 10.42.0.1 table 100
ip route add default via 10.42.0.9 table 100
ip -6 route add fd99::/64 via fd42::1 table 100
"""
FOUR, SIX, ALL = "10.99.0.0/24", "fd99::/64", "0.0.0.0/0"
RIGHT = {
    FOUR: {"via 10.41.0.1 on fabric0"},
    SIX: {"via fd41::1 on fabric0"},
    ALL: {"via 10.42.0.1 on fabric1"},
}
ELSEWHERE = "via 10.42.0.1 on fabric1"
DIVERTED = {
    "a rule for the whole network": ("ip rule add to 10.99.0.0/24 lookup 100", FOUR, ELSEWHERE),
    "a rule for one address": ("ip rule add to 10.99.0.77 lookup 100", FOUR, ELSEWHERE),
    "a rule for an own address": ("ip rule add from 10.41.0.11 to 10.0.0.0/8 lookup 100", FOUR, ELSEWHERE),
    "a rule for half of it": ("ip rule add to 10.99.0.128/25 lookup 100", FOUR, ELSEWHERE),
    "a rule that discards": ("ip rule add to 10.99.0.0/26 blackhole", FOUR, "via none on none"),
    "a rule that prohibits": ("ip rule add to 10.99.0.5 prohibit", FOUR, "via none on none"),
    "a rule of IPv6": ("ip -6 rule add to fd99::/64 lookup 100", SIX, "via fd42::1 on fabric1"),
    "a rule for all": ("ip rule add lookup 100", ALL, "via 10.42.0.9 on fabric1"),
    "a route of the table local": ("ip route add local 10.99.0.254 dev lo table local", FOUR, "via none on lo"),
}
SILENT = {
    "a rule with the same outcome": "ip rule add to 10.99.0.0/24 lookup main",
    "a rule for another network": "ip rule add to 10.55.0.0/16 lookup 100",
    "a rule for marked packets": "ip rule add fwmark 7 lookup 100",
    "a rule of another address": "ip rule add from 10.200.0.1 lookup 100",
    "a rule that comes too late": "ip rule add pref 32767 to 10.99.0.0/24 lookup 100",
    "an empty table": "ip rule add to 10.99.0.0/24 lookup 200",
    "a route of another table": "ip route add 10.98.0.0/24 via 10.42.0.1 table 100",
    "a more specific route of the main table": "ip route add 10.99.0.64/26 via 10.42.0.7",
    "another address": "ip address add 10.43.0.11/24 dev fabric1",
    "another link": "ip link add near9 type veth peer name far9",
}


def chosen(change: str, destinations: Iterable[str] = RIGHT) -> dict[str, set[str]]:
    """Return the routes that the kernel takes after *change*, to *destinations*, in a namespace of their own."""
    script = f'{SET_UP}\n{change}\nexec "$0" -c "$1"'
    argv = ["unshare", "--net", "--mount", "sh", "-c", script, sys.executable, READ]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    facts = Facts({"chosen_routes": json.loads(done.stdout)})
    return {
        destination: {format_route(each.gateway, each.link) for each in facts.chosen_routes(destination)}
        for destination in destinations
    }

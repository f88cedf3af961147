"""Isolated teams on two nodes: real rules in a real kernel, and the network of pods by the plugins that make it."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support import pod_network as pod_network_module
from tests.support.net_namespaces import Namespace
from tests.support.pod_network import ADDRESSES, PLUGINS, PODS, check, node_files, pod_network

pytestmark = pytest.mark.skipif(not (PLUGINS / "ptp").exists(), reason="containernetworking-plugins is not installed")


def test_a_pod_reaches_its_team_and_the_names_and_nothing_else_by_either_family(tmp_path: Path) -> None:
    """
    Pods, nodes and a stranger, by IPv4, by IPv6 of the link, in fragments, and with the addresses of others.
    """
    with pod_network(tmp_path) as network:
        found = check(network)
    assert found.wrong == ()
    assert found.cases > 2000


def test_a_pod_that_kept_the_bridge_of_an_earlier_version_has_no_ipv6_either(tmp_path: Path) -> None:
    with pod_network(tmp_path, plugin="bridge") as network:
        found = check(network)
    assert [text for text in found.wrong if "fe80" in text] == []


ICMP = """
import socket, struct, sys
kind, code, source, destination, port, own = sys.argv[1:]

def summed(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return struct.pack("!H", ~total & 0xffff)

head = struct.pack("!BBHHHBBH", 0x45, 0, 1028, 1, 0x4000, 63, 17, 0)
head += socket.inet_aton(source) + socket.inet_aton(destination)
head = head[:10] + summed(head) + head[12:]
body = struct.pack("!BBHHH", int(kind), int(code), 0, 0, 600) + head + struct.pack("!4H", 5555, int(port), 1000, 0)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
raw.bind((own, 0))
raw.sendto(body[:2] + summed(body) + body[4:], (source, 0))
"""
HOLD = """
import socket, sys
held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind((sys.argv[1], 5555))
held.connect((sys.argv[2], int(sys.argv[3])))
held.send(b"x" * 32)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("sender", ["vision-1", "plain-1"])
def test_no_pod_changes_the_path_of_others_by_an_error_of_icmp(tmp_path: Path, sender: str) -> None:
    """The error names a connection of a pod of another team, or of the node: its size of packets would become 600."""
    pods = {**PODS, "plain-1": ("alpha", "plain")}
    with patch.dict(pod_network_module.PODS, pods, clear=True), pod_network(tmp_path) as network:
        addresses = network.addresses
        for place, own, peer, port in (
            (network.pods["speech-1"], addresses["speech-1"], addresses["speech-2"], 8080),
            (network.hosts["alpha"], ADDRESSES["alpha"], ADDRESSES["beta"], 30080),
        ):
            argv = place.inside(sys.executable, "-c", HOLD, own, peer, str(port))
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
                assert held.stdout is not None and held.stdout.readline() == "ready\n"
                for kind, code in ((3, 4), (3, 3), (5, 1)):
                    error = (sys.executable, "-c", ICMP, str(kind), str(code), own, peer, str(port), addresses[sender])
                    network.pods[sender].run(*error)
                found = place.run("ip", "route", "get", peer)
                held.communicate("")
            assert "mtu" not in found, f"{sender} has changed the route of {own}: {found}"


ECHO = """
import select, socket
poll, several = select.epoll(), {}
for port in range(10000, 10400):
    each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each.setblocking(False)
    each.bind(("0.0.0.0", port))
    poll.register(each, select.EPOLLIN)
    several[each.fileno()] = each
print("ready", flush=True)
while True:
    for number, _ in poll.poll():
        try:
            while True:
                several[number].sendto(b"x", several[number].recvfrom(16)[1])
        except BlockingIOError:
            pass
"""
MANY = """
import socket, sys, time
several = []
for port in range(20000, 20004):
    each = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    each.bind(("0.0.0.0", port))
    several.append(each)
for each in several:
    for port in range(10000, 10400):
        each.sendto(b"x", (sys.argv[1], port))
    time.sleep(0.01)
"""
FLOWS = 512


@pytest.mark.parametrize("receiver", ["vision-3", "vision-2"], ids=["the same node", "another node"])
def test_one_pod_does_not_fill_the_table_of_connections_of_a_node(tmp_path: Path, receiver: str) -> None:
    """
    A pod sends from 4 ports to 400 ports of a pod of its own team, which answers. Other pods still open connections.
    """
    with pod_network(tmp_path) as network:
        for name in ("alpha", "beta"):
            rules = node_files(name)["/etc/rackwright/kubernetes-teams.nft"]
            assert rules.count("ct count over 8192 }") == 3
            network.hosts[name].run("nft", "-f", "-", input=rules.replace("over 8192", f"over {FLOWS}"))
        argv = network.pods[receiver].inside(sys.executable, "-c", ECHO)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as answering:
            assert answering.stdout is not None and answering.stdout.readline() == "ready\n"
            network.pods["vision-1"].run(sys.executable, "-c", MANY, network.addresses[receiver])
            counts = [_connections(network.hosts[name]) for name in ("alpha", "beta")]
            answering.kill()
        ask = "import socket, sys; socket.create_connection((sys.argv[1], 53), 5).close()"
        network.pods["speech-1"].run(sys.executable, "-c", ask, network.addresses["dns"])
    assert FLOWS / 2 < max(counts) <= FLOWS + 50, counts


def _connections(host: Namespace) -> int:
    return int(host.run("cat", "/proc/sys/net/netfilter/nf_conntrack_count"))

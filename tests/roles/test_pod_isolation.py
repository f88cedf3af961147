"""Isolated teams on two nodes: real rules in a real kernel, and the network of pods by the plugins that make it."""

import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support import pod_network as pod_network_module
from tests.support.pod_network import ADDRESSES, PLUGINS, PODS, check, pod_network

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

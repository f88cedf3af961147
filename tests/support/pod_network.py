"""Nodes of a cluster and their pods as network namespaces: the files of role kubernetes_node, and real CNI plugins."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from rackwright.kinds.role.promise import promises
from rackwright.kinds.role.spec import AboutFleet, AboutHost, RoleSpec
from rackwright.schema.cluster import Team
from rackwright.stack.team_addresses import team_addresses
from tests.support.net_namespaces import Datagram, Namespace, arrived, join, namespaces
from tests.support.our_roles import REPOSITORY

PLUGINS = Path("/usr/lib/cni")
NETWORKS = {"alpha": "10.244.1.0/24", "beta": "10.244.2.0/24"}
ADDRESSES = {"alpha": "10.0.0.11", "beta": "10.0.0.12", "stranger": "10.0.0.99"}
SIZE = {"cpus": 1, "memory": "1GiB"}
TEAMS = {
    "vision": Team.model_validate({**SIZE, "slice": 1}),
    "speech": Team.model_validate({**SIZE, "slice": 2}),
    "plain": Team.model_validate(SIZE),
}
PODS = {
    "vision-1": ("alpha", "vision"),
    "vision-2": ("beta", "vision"),
    "vision-3": ("alpha", "vision"),
    "speech-1": ("alpha", "speech"),
    "speech-2": ("beta", "speech"),
    "dns": ("alpha", "kube-system"),
    "plain-2": ("beta", "plain"),
}
"""Node and namespace of each pod; the first address of a slice goes to the first pod of its team."""
DNS, SERVED = 53, 8080
NODE_PORTS = (22, 6443, 10250, 30080)
FABRIC = "fabric0"
BRIDGE: dict[str, Any] = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True}
"""The plugin of earlier versions: all pods of a node on one bridge."""
NEW = r"veth|cni0|fib"
"""Rules that those versions did not have."""


@dataclass
class PodNetwork:
    """Two nodes, their pods, and a host that is no node, on one switch."""

    hosts: dict[str, Namespace]
    pods: dict[str, Namespace]
    addresses: dict[str, str] = field(default_factory=dict)
    """The address of each pod, as the plugin gave it."""
    links: dict[str, str] = field(default_factory=dict)
    """The link at the host's end of each pod."""

    def node(self, pod: str) -> Namespace:
        """Return the node of *pod*."""
        return self.hosts[PODS[pod][0]]

    def slices(self, pod: str) -> str:
        """Return the team of *pod* whose slice it has; empty for a pod without one."""
        team = PODS[pod][1]
        return team if team in TEAMS and TEAMS[team].slice else ""


def node_files(name: str) -> dict[str, str]:
    """Return the files that role kubernetes_node writes on the node *name*, by their path."""
    other = next(each for each in NETWORKS if each != name)
    variables = {
        "address": ADDRESSES[name],
        "pod_network": NETWORKS[name],
        "nodes": [{"address": ADDRESSES[other], "pod_network": NETWORKS[other]}],
        "teams": team_addresses(TEAMS, NETWORKS[name], [NETWORKS[other]]),
    }
    spec = RoleSpec(
        host=name,
        role="kubernetes_node",
        identity={"serial": "S1"},
        about=AboutHost(name=name, os="debian-12", profile="virtual"),
        fleet=AboutFleet(name="lab"),
        variables=variables,
    )
    return {file.file: str(file.content) for file in promises(spec, REPOSITORY).files}


@contextmanager
def pod_network(directory: Path, plugin: str = "ptp", rules: str = "") -> Iterator[PodNetwork]:
    """Yield the nodes with their rules loaded, and pods of each team that listen on all of their addresses.

    Args:
        plugin: The plugin of the network; ``bridge`` for that of earlier versions.
        rules: A pattern of rules to leave out.
    """
    with namespaces(directory, "switch", *ADDRESSES, *PODS) as made:
        network = PodNetwork({name: made[name] for name in ADDRESSES}, {name: made[name] for name in PODS})
        made["switch"].ip("link add switch up type bridge")
        for name, host in network.hosts.items():
            join(made["switch"], name, host, FABRIC)
            made["switch"].ip(f"link set {name} master switch")
            host.ip(f"address add {ADDRESSES[name]}/24 dev {FABRIC}")
        for name, other in (("alpha", "beta"), ("beta", "alpha")):
            _start_node(network, name, other, directory, plugin, rules)
        for pod in network.pods.values():
            pod.listen(tcp=(DNS, SERVED), udp=(DNS, SERVED))
        for host in network.hosts.values():
            host.listen(tcp=NODE_PORTS, udp=NODE_PORTS)
        network.hosts["stranger"].ip(*(f"route add {NETWORKS[name]} via {ADDRESSES[name]}" for name in NETWORKS))
        yield network


def _start_node(network: PodNetwork, name: str, other: str, directory: Path, plugin: str, left_out: str) -> None:
    files, host, place = node_files(name), network.hosts[name], directory / name
    host.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.run(
        "sh", "-c", "for i in ip ip6; do echo 1 > /proc/sys/net/bridge/bridge-nf-call-${i}tables; done", check=False
    )
    host.ip(f"route add {NETWORKS[other]} via {ADDRESSES[other]}")
    rules = files["/etc/rackwright/kubernetes-teams.nft"]
    if left_out:
        rules = "".join(line for line in rules.splitlines(keepends=True) if not re.search(left_out, line))
    host.run("nft", "-f", "-", input=rules)
    place.mkdir()
    for program in PLUGINS.iterdir():
        (place / program.name).symlink_to(program)
    own = place / "rackwright-teams"
    own.write_text(files["/usr/local/lib/cni/rackwright-teams"])
    own.chmod(0o755)
    config = json.loads(files["/etc/cni/net.d/10-rackwright.conflist"])
    settings = {**config["plugins"][0], "name": config["name"], "cniVersion": config["cniVersion"]}
    if plugin == BRIDGE["type"]:
        settings |= BRIDGE
    settings["ipam"]["dataDir"] = str(place / "addresses")
    for pod in (each for each, (node, _) in PODS.items() if node == name):
        added = _add(host, network.pods[pod], PODS[pod][1], settings, place)
        network.addresses[pod] = added["ips"][0]["address"].partition("/")[0]
        network.links[pod] = next(each["name"] for each in added["interfaces"] if each["name"].startswith("veth"))


def _add(host: Namespace, pod: Namespace, namespace: str, settings: dict[str, Any], place: Path) -> Any:
    """Run the plugin as containerd runs it when a pod starts, and return its result."""
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": pod.name,
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(place),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod.name}",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    argv = host.inside(str(place / settings["type"]))
    done = subprocess.run(argv, input=json.dumps(settings), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{pod.name}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout)


def is_allowed(network: PodNetwork, source: str, target: str, port: int) -> bool:
    """Return whether a pod may reach another pod by IPv4: those of its team, and the names of the cluster."""
    own, other = network.slices(source), network.slices(target)
    return own == other or (not other and port == DNS)


@dataclass(frozen=True)
class Outcome:
    """What a check of a network found."""

    cases: int
    wrong: tuple[str, ...]
    """What is reached and should not be, or the other way round."""


def check(network: PodNetwork) -> Outcome:
    """Try every path between pods, nodes and a stranger, by both families and with the addresses of others."""
    with ThreadPoolExecutor(len(network.pods) + len(network.hosts)) as pool:
        several = [pool.submit(_check_pod, network, name) for name in network.pods]
        several += [pool.submit(_check_host, network, name) for name in network.hosts]
        found = [each.result() for each in several]
    return Outcome(sum(each.cases for each in found), tuple(text for each in found for text in each.wrong))


def _check_pod(network: PodNetwork, name: str) -> Outcome:
    pod, node = network.pods[name], network.node(name)
    isolated = bool(network.slices(name))
    wanted: dict[tuple[str, int], bool] = {}
    others = {each: address for each, address in network.addresses.items() if each != name}
    for other, address in others.items():
        wanted |= {(address, port): is_allowed(network, name, other, port) for port in (DNS, SERVED)}
    gateways = [str(next(ip_network(each).hosts())) for each in NETWORKS.values()]
    wanted |= {(address, port): not isolated for address in (*ADDRESSES.values(), *gateways) for port in NODE_PORTS}
    near = [node.link_local(network.links[name]), *(network.pods[other].link_local("eth0") for other in others)]
    if "cni0" in node.run("ip", "link"):
        near.append(node.link_local("cni0"))
    places = {address.partition("%")[0] + "%eth0" for address in near}
    wanted |= {(address, port): False for address in places for port in (*NODE_PORTS, DNS, SERVED)}
    reached = pod.connects([*wanted])
    wrong = [f"{name} reaches {target}" for target in sorted(reached) if not wanted[target]]
    wrong += [
        f"{name} does not reach {target}" for target in sorted(wanted) if wanted[target] and target not in reached
    ]
    datagrams = {
        Datagram(*target, padding=padding): allowed
        for target, allowed in wanted.items()
        if target[0] != ADDRESSES["stranger"] or not allowed
        for padding in (0, 4000)
    }
    pretences = dict.fromkeys(forged(network, name), False)
    return _check_datagrams(network, pod, datagrams | pretences, wrong, len(wanted))


def _check_host(network: PodNetwork, name: str) -> Outcome:
    """Check what a node, or a stranger, reaches: its own pods, and those without a slice."""
    host = network.hosts[name]
    wanted = {
        (address, port): PODS[pod][0] == name or not network.slices(pod)
        for pod, address in network.addresses.items()
        for port in (DNS, SERVED)
    }
    reached = host.connects([*wanted])
    wrong = [f"{name} reaches {target}" for target in sorted(reached) if not wanted[target]]
    wrong += [
        f"{name} does not reach {target}" for target in sorted(wanted) if wanted[target] and target not in reached
    ]
    datagrams = {Datagram(*target): allowed for target, allowed in wanted.items()}
    if name not in NETWORKS:  # with the address of a pod of the same node
        datagrams |= {
            Datagram(address, SERVED, pretence): False
            for pod, address in network.addresses.items()
            for other, pretence in network.addresses.items()
            if pod != other and PODS[pod][0] == PODS[other][0]
        }
    return _check_datagrams(network, host, datagrams, wrong, len(wanted))


def _check_datagrams(
    network: PodNetwork, sender: Namespace, wanted: Mapping[Datagram, bool], wrong: list[str], cases: int
) -> Outcome:
    texts = dict(zip(sender.send([*wanted]), wanted.items(), strict=True))
    found = arrived(texts, *network.pods.values(), *network.hosts.values(), seconds=2)
    for text, (datagram, allowed) in texts.items():
        if (text in found) != allowed:
            wrong.append(f"{sender.name}: {datagram} {'arrived' if text in found else 'did not arrive'}")
    return Outcome(cases + len(wanted), tuple(wrong))


def forged(network: PodNetwork, source: str) -> Sequence[Datagram]:
    """Return datagrams of the pod *source* with the addresses of others, to pods and ports that it must not reach."""
    node, _ = PODS[source]
    pretended = {*network.addresses.values(), *ADDRESSES.values(), "10.244.1.1", "10.244.1.200", "192.0.2.77"}
    places = [(address, SERVED) for pod, address in network.addresses.items() if pod != source]
    places += [(ADDRESSES[node], port) for port in NODE_PORTS]
    return [
        Datagram(address, port, pretence)
        for pretence in sorted(pretended - {network.addresses[source]})
        for address, port in places
        if address != pretence
    ]

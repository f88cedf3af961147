"""The resources of a stack's clusters: a Node on each host that joins, then the Cluster on the control plane."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rackwright.errors import Diagnostic
from rackwright.kinds.cluster import ClusterKind, ClusterSpec, NodeKind, NodeSpec
from rackwright.kinds.cluster.cluster import NodePart
from rackwright.kinds.cluster.node import OWNER as NODE
from rackwright.kinds.cluster.team import TeamPart
from rackwright.schema.cluster import API_PORT, CONTROL_PLANE_ROLE, CONTROL_PLANE_TAINT, NODE_ROLE, Cluster, ClusterNode
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Host
from rackwright.schema.network import NetworkLink, Route, links
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.stack import Stack
from rackwright.stack.team_addresses import team_addresses

GPU_LABEL = "gpu.rackwright.local"
"""Domain of the labels with the number of GPUs of each model, such as ``gpu.rackwright.local/a100-80gb=4``."""
SKEW_MINORS = 3
"""Number of minor versions by which a kubelet may be older than the API server."""


def clusters(stack: Stack) -> Iterator[DeclaredResource]:
    """Yield the resources of every cluster; the cluster itself comes after its nodes.

    Further control planes join before their role is applied, see `joining_control_plane`.
    """
    for name, cluster in stack.fleet.clusters.items():
        if cluster.api and name not in stack.cluster_apis:
            continue  # a rehearsal; the stack has a notice
        if cluster.provided:
            yield DeclaredResource(ClusterKind(), _cluster(stack, name, cluster), cluster.control_planes[:1])
            continue
        planes = _roles(cluster.control_planes)
        nodes = [
            DeclaredResource(NodeKind(), _node(stack, name, cluster, host), (f"{host}/{NODE_ROLE}", *planes))
            for host in cluster.workers
        ]
        yield from nodes
        after = (*planes, *(node.name for node in nodes))
        yield DeclaredResource(ClusterKind(), _cluster(stack, name, cluster), after)


def joining_control_plane(stack: Stack, host: str, role: str) -> Iterator[DeclaredResource]:
    """Yield the Node of a further control plane, if *role* is that of its control plane, which comes after it."""
    for name, cluster in _own_clusters(stack).items():
        if role == CONTROL_PLANE_ROLE and host in cluster.further_control_planes:
            after = (f"{host}/{NODE_ROLE}", *_roles([_plane_before(cluster, host)]))
            yield DeclaredResource(NodeKind(), _node(stack, name, cluster, host), after)


def _own_clusters(stack: Stack) -> dict[str, Cluster]:
    """Return the clusters that rackwright makes."""
    return {name: cluster for name, cluster in stack.fleet.clusters.items() if not cluster.provided}


def _roles(planes: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{plane}/{CONTROL_PLANE_ROLE}" for plane in planes)


def _plane_before(cluster: Cluster, host: str) -> str:
    """Return the control plane before *host*: one changes after another, so that etcd keeps its majority."""
    return cluster.control_planes[cluster.control_planes.index(host) - 1]


def role_variables(stack: Stack, host: str, role: str) -> dict[str, Any]:
    """Return the variables of *role* that follow from the cluster of *host*.

    A node has routes to pods and services; a further control plane joins; those of a queue and the like have images.
    """
    variables = _cluster_variables(stack, host, role)
    if role == NODE_ROLE and routes(stack, host):
        variables["network_routes"] = True
    return variables


def routes(stack: Stack, host: str) -> tuple[Route, ...]:
    """Return the routes to pods and services that the declared network of *host* has for role kubernetes_node.

    It has none if its links do not reach the other nodes: then the role adds the routes.
    """
    machine = stack.fleet.hosts[host]
    if NODE_ROLE not in machine.roles or machine.network is None:
        return ()
    variables = _cluster_variables(stack, host, NODE_ROLE) | machine.variables(NODE_ROLE)
    own, nodes = str(variables.get("address", "")), variables.get("nodes") or ()
    found = links(machine.network, machine.nics)
    link = next((name for name, each in found.items() if own in {one.split("/")[0] for one in each.addresses}), None)
    if link is None or not all(_is_reached(found[link], node) for node in nodes):
        return ()
    ways = [(node["pod_network"], node["address"]) for node in nodes]
    if nodes and (services := variables.get("service_network")):
        ways.append((services, nodes[0]["address"]))
    declared = {route.destination for route in machine.network.routes}
    return tuple(Route(to=to, via=via, on=link) for to, via in ways if to not in declared)


def _is_reached(link: NetworkLink, node: Mapping[str, str]) -> bool:
    """Return whether the pods of *node* are a network behind *link*."""
    address, pods = node["address"], node["pod_network"]
    return bool(address and pods) and (":" in address) == (":" in pods) and link.holds(address)


def _cluster_variables(stack: Stack, host: str, role: str) -> dict[str, Any]:
    several = [each for each in _own_clusters(stack).values() if host in each.members]
    if not several:
        return {}
    [cluster] = several  # a host is in one cluster
    if role == CONTROL_PLANE_ROLE:
        joins = host in cluster.further_control_planes
        flags = {"joins": joins, "queue": cluster.queue, "groups": cluster.groups, "metrics": cluster.metrics}
        return {name: True for name, value in flags.items() if value}
    if role != NODE_ROLE:
        return {}
    hosts, keys = stack.fleet.hosts, ("address", "pod_network")
    others = [hosts[member].roles[NODE_ROLE] for member in cluster.members if member != host]
    networks = [str(other.get("pod_network", "")) for other in others]
    own = str(hosts[host].roles[NODE_ROLE].get("pod_network", ""))
    return {
        "teams": team_addresses(cluster.teams, own, networks),
        "nodes": [{key: other.get(key, "") for key in keys} for other in others],
        "service_network": _variable(stack, cluster.control_planes[0], CONTROL_PLANE_ROLE, "service_network"),
    }


def control_planes_first(fleet: Fleet) -> list[tuple[str, Host]]:
    """Return the hosts of *fleet*, first those with a control plane, after which other hosts are upgraded."""
    planes = [plane for cluster in fleet.clusters.values() for plane in cluster.control_planes]
    order = {plane: number for number, plane in enumerate(planes)}
    return sorted(fleet.hosts.items(), key=lambda item: order.get(item[0], len(order)))


def role_prerequisites(stack: Stack, host: str, role: str) -> tuple[str, ...]:
    """Return the resources that come before *role* because of a cluster.

    Control planes change one after another, and before the kubelet of a node. A further one joins before its role. The
    network of a node has its routes before the role leaves them to it.
    """
    declared = stack.fleet.hosts[host].network is not None
    network = (f"{host}/network",) if role == NODE_ROLE and declared else ()
    for cluster in _own_clusters(stack).values():
        if host in cluster.further_control_planes:
            if role == CONTROL_PLANE_ROLE:
                return (f"{host}/{NODE}",)
            if role == NODE_ROLE:
                return (*network, *_roles([_plane_before(cluster, host)]))
        if host in cluster.workers and role == NODE_ROLE:
            return (*network, *_roles(cluster.control_planes))
        if host in cluster.members:
            return network
    return ()


def version_problems(stack: Stack) -> Iterator[Diagnostic]:
    """Yield an error for each version that does not fit that of its control plane.

    Source: Kubernetes, "Version Skew Policy"
    """
    for cluster in stack.fleet.clusters.values():
        if cluster.provided:
            continue
        plane = cluster.control_planes[0]
        serves = str(_variable(stack, plane, CONTROL_PLANE_ROLE, "version"))
        for host in cluster.members:
            version = str(_variable(stack, host, NODE_ROLE, "version"))
            if host in cluster.control_planes and version != serves:
                expected = f"{serves}, as in {CONTROL_PLANE_ROLE}"
            elif _numbers(version) > _numbers(serves):
                expected = f"at most {serves}, the version of {plane}"
            elif _numbers(version)[:2] < _oldest(serves):
                oldest = ".".join(map(str, _oldest(serves)))
                expected = f"{oldest} to {serves}: kubelet is at most {SKEW_MINORS} minor versions older than the API"
            else:
                continue
            where = f"hosts.{host}.roles.{NODE_ROLE}.version"
            help = "Declare the versions together, one minor version at a time"
            yield Diagnostic(where, f"got {version}", expected, help, id="version-skew")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _oldest(version: str) -> tuple[int, ...]:
    major, minor, *_ = _numbers(version)
    return major, minor - SKEW_MINORS


def _common(stack: Stack, host: str) -> dict[str, Any]:
    identity = dict([stack.fleet.hosts[host].identity.strongest])
    return {
        "host": host,
        "not_rehearsable": stack.not_rehearsable(host),
        "identity": identity,
        "fleet": stack.fleet.fleet,
    }


def _node(stack: Stack, name: str, cluster: Cluster, host: str) -> NodeSpec:
    plane = stack.fleet.hosts[cluster.control_planes[0]].roles[CONTROL_PLANE_ROLE]
    endpoint = plane.get("endpoint") or _with_port(str(plane.get("address", "")))
    own = stack.fleet.hosts[host].roles.get(CONTROL_PLANE_ROLE, {}) if host in cluster.control_planes else {}
    return NodeSpec(
        **_common(stack, host),
        cluster=name,
        control_plane=cluster.control_planes[0],
        endpoint=endpoint,
        api_address=str(own.get("address", "")),
    )


def _with_port(address: str) -> str:
    return f"[{address}]:{API_PORT}" if ":" in address else f"{address}:{API_PORT}"


def _cluster(stack: Stack, name: str, cluster: Cluster) -> ClusterSpec:
    members = {**dict.fromkeys(cluster.control_planes, ClusterNode()), **cluster.nodes}
    return ClusterSpec(
        **_source(stack, cluster),
        name=name,
        provided=cluster.provided,
        version=f"v{cluster.version or _variable(stack, cluster.control_planes[0], CONTROL_PLANE_ROLE, 'version')}",
        control_planes=cluster.control_planes if cluster.further_control_planes and not cluster.provided else (),
        nodes=tuple(
            NodePart(
                name=host,
                version=f"v{node.version or cluster.version or _variable(stack, host, NODE_ROLE, 'version')}",
                labels=_labels(stack, cluster, host, node),
                taints=tuple(sorted((*(taint.text for taint in node.taints), *_taints_of(cluster, host)))),
            )
            for host, node in members.items()
        ),
        teams=tuple(
            TeamPart(name=team, declared=declared, cohort=name if cluster.queue else None)
            for team, declared in cluster.teams.items()
        ),
        queue=cluster.queue,
        groups=cluster.groups,
        metrics=cluster.metrics,
    )


def _source(stack: Stack, cluster: Cluster) -> dict[str, Any]:
    """Return the fields of a cluster about the origin of its facts: a host with the control plane, or the API."""
    return {"fleet": stack.fleet.fleet} if cluster.api else _common(stack, cluster.control_planes[0])


def _labels(stack: Stack, cluster: Cluster, host: str, node: ClusterNode) -> tuple[str, ...]:
    """Return the labels of a node: the declared ones, and the GPUs of the host's profile by their model.

    The host compares its GPUs with the profile, so that the labels need no program on the node.
    """
    gpus = {} if cluster.provided else stack.fleet.hosts[host].minimum.gpus
    of_pods = {} if cluster.provided else stack.fleet.hosts[host].roles.get("device_plugin", {})
    if of_pods.get("gpus") is not None and len(gpus) == 1:
        gpus = {model: len(of_pods["gpus"]) for model in gpus}
    found = {f"{GPU_LABEL}/{model}": str(count) for model, count in gpus.items()}
    return tuple(f"{key}={value}" for key, value in sorted({**found, **node.labels}.items()))


def _taints_of(cluster: Cluster, host: str) -> tuple[str, ...]:
    return (CONTROL_PLANE_TAINT,) if host in cluster.control_planes and host not in cluster.nodes else ()


def _variable(stack: Stack, host: str, role: str, name: str) -> Any:
    """Return the declared value of a variable, or the default of the role."""
    defaults = stack.repository.roles[role].defaults
    return stack.fleet.hosts[host].roles[role].get(name, defaults[f"{role}_{name}"])

"""Clusters of Kubernetes over hosts of a fleet, and clusters of others."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rackwright.schema import cluster_network, cluster_store
from rackwright.schema.base import Amount, Count, Many, Schema
from rackwright.schema.cluster_api import ClusterApi
from rackwright.schema.host import Host, HostName, Name
from rackwright.schema.problem import Problem, excerpt, hint
from rackwright.schema.units import Size

CONTROL_PLANE_ROLE, NODE_ROLE = "kubernetes_control_plane", "kubernetes_node"
CONTROL_PLANE_TAINT = "node-role.kubernetes.io/control-plane:NoSchedule"
"""Taint that kubeadm gives the nodes of a control plane."""
API_PORT = 6443
"""Port of the API server."""
POD_STORAGE = Size("20GiB")
CONTROL_PLANE_COUNTS = (1, 3, 5)
EQUAL_ON_CONTROL_PLANES = (
    *("version", "endpoint", "encryption_key", "pod_network", "service_network", "domain"),
    *("names", "audit_days"),
)
"""Variables of role kubernetes_control_plane that are those of a whole cluster."""
SLICES = 16
"""Number of parts of a node's pod network; the first is for pods without an isolated team."""
_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_DOMAIN = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/"
OF_KUBERNETES = re.compile(r"([a-z0-9.-]*\.)?(kubernetes|k8s)\.io/")
"""Beginning of names of labels and taints that Kubernetes itself gives nodes."""
HOSTNAME_LABEL = "kubernetes.io/hostname"
"""Label of a node with its name, by which rackwright places pods and volumes."""
_SOURCE = 'Kubernetes, "Labels and Selectors"'
NODE_ROLE_TAINT = "node-role.kubernetes.io/"
"""Beginning of names of taints that distributions of Kubernetes and people give nodes, by their work."""
_NODE_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
_NODE_NAME_MAX = 253


def _key(text: str) -> str:
    if OF_KUBERNETES.match(_check_name(text)):
        expected = "names below kubernetes.io and k8s.io belong to Kubernetes itself"
        raise Problem(f"got {excerpt(text)}", expected, "Take a name of your own domain, or one without a domain")
    return text


def _taint_key(text: str) -> str:
    return _check_name(text) if text.startswith(NODE_ROLE_TAINT) else _key(text)


def _check_name(text: str) -> str:
    if not re.fullmatch(f"({_DOMAIN})?{_NAME}", text):
        expected = "it has letters, digits and . _ - between them, 63 at most, and may have a domain before a slash"
        raise Problem(f"got {excerpt(text)}", expected, "Write it like rack, or example.com/rack", source=_SOURCE)
    return text


def _value(text: str) -> str:
    if not re.fullmatch(f"({_NAME})?", text):
        expected = "it has letters, digits and . _ - between them, 63 at most"
        raise Problem(f"got {excerpt(text)}", expected, "Write it like a1", source=_SOURCE)
    return text


def _node_name(text: str) -> str:
    if not re.fullmatch(_NODE_NAME, text) or len(text) > _NODE_NAME_MAX:
        expected = f"the name of a node has small letters, digits and - . between them, {_NODE_NAME_MAX} at most"
        raise Problem(f"got {excerpt(text)}", expected, "Copy it from `kubectl get nodes`")
    return text


Key = Annotated[str, AfterValidator(_key)]
TaintKey = Annotated[str, AfterValidator(_taint_key)]
NodeName = Annotated[str, AfterValidator(_node_name)]
Version = Annotated[str, Field(pattern=r"^1\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)([-+][0-9A-Za-z.+-]+)?$")]
Value = Annotated[str, AfterValidator(_value)]


class Taint(Schema):
    """A mark of a node that keeps pods away which do not tolerate it."""

    key: TaintKey
    """Name of the taint."""
    value: Value = ""
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"
    """Effect on pods without a toleration; NoExecute also ends those that run."""

    @property
    def text(self) -> str:
        """The taint as kubectl writes it."""
        return f"{self.key}{'=' * bool(self.value)}{self.value}:{self.effect}"


class ClusterNode(Schema):
    """A node of a cluster: a host that runs pods. With `api` it may be a machine outside of this fleet."""

    labels: dict[Key, Value] = Field(default_factory=dict)
    """Labels of the node; those that Kubernetes itself sets are not named here."""
    taints: Many[Taint] = ()
    """Taints of the node; those that Kubernetes itself sets are not named here."""
    version: Version | None = None
    """Version of its kubelet, if a provided cluster has another one there than `version`."""


CONTROLLERS = ("kueue-system", "jobset-system", "lws-system")
"""Namespaces of the controllers that rackwright installs, whose accounts may make pods of its runs and servers."""


def _team_name(name: str) -> str:
    if name == "default" or name.startswith("kube-") or name in CONTROLLERS:
        controllers = ", ".join(CONTROLLERS)
        expected = f"the namespaces default and kube-… belong to Kubernetes itself, and {controllers} to controllers"
        raise Problem(f"got the name {name!r}", expected, "Give the team another name")
    return name


TeamName = Annotated[Name, AfterValidator(_team_name)]
OF_THE_SYSTEM = "system:"
"""Beginning of names that Kubernetes itself gives accounts and groups. Source: Kubernetes, "Using RBAC"."""


def _group(name: str) -> str:
    if name.startswith(OF_THE_SYSTEM):
        expected = "names that begin with system: belong to Kubernetes itself, and mean all accounts or all pods"
        raise Problem(f"got {excerpt(name)}", expected, "Name a group of people, as their certificates name it")
    if name != name.strip():
        expected = "the name of a group has no blanks around it"
        raise Problem(f"got {excerpt(name)}", expected, "Remove them")
    return name


Group = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_group)]


class BorrowingLimits(Schema):
    """Limits of what the jobs of a team take in addition to its own, while other teams do not use it."""

    cpus: Amount = 0
    """Number of processors."""
    memory: Size | None = None
    """Memory; none by default."""
    gpus: Amount = 0
    """Number of GPUs."""


class Team(Schema):
    """A team with a namespace of its own: what its pods may take together, and who may do what there."""

    cpus: Count
    """Number of processors that its pods may ask for together."""
    memory: Size
    """Memory that its pods may ask for together."""
    gpus: Amount = 0
    """Number of GPUs that its pods may ask for together."""
    pods: Count = 100
    """Number of its pods."""
    ephemeral_storage: Size | None = None
    """Storage of nodes that its pods may take together for files that end with them, by default 20 GiB for each."""
    borrows: BorrowingLimits = BorrowingLimits()
    """Limits beyond its own, up to which its jobs borrow from other teams; only with `queue` of the cluster."""
    slice: Annotated[int, Field(ge=1, lt=SLICES)] | None = None
    """Part of each node's pod network that its pods alone have. Hosts keep other teams away from these addresses."""
    operators: Many[Group] = ()
    """Groups of people who start and stop its pods, as their certificates or tokens name them."""
    viewers: Many[Group] = ()
    """Groups of people who look at its pods."""

    @property
    def storage(self) -> int:
        """Bytes of `ephemeral_storage`."""
        return self.pods * POD_STORAGE if self.ephemeral_storage is None else self.ephemeral_storage


class Cluster(Schema):
    """A cluster of Kubernetes, whose hosts have the role kubernetes_node, or one that others made."""

    control_plane: HostName | None = None
    """Host with the role kubernetes_control_plane, which makes the cluster. Required unless `api` is there."""
    api: ClusterApi | None = None
    """API of a provided cluster whose control plane is no host of this fleet, instead of `control_plane`."""
    further_control_planes: Many[HostName] = ()
    """Further hosts with the role kubernetes_control_plane, two or four, each of which has a member of etcd too."""
    provided: bool = False
    """Whether others made the cluster, and change it. rackwright only compares it."""
    version: Version | None = None
    """Version of a provided cluster, such as 1.37.2; other clusters have the version of their roles."""
    nodes: dict[NodeName, ClusterNode] = Field(default_factory=dict)
    """Hosts that run pods, by name; control planes run some only if they are among them. With `api`, all nodes."""
    teams: dict[TeamName, Team] = Field(default_factory=dict)
    """Teams by the names of their namespaces."""
    queue: bool = False
    """Whether runs that do not fit wait in the queue of their team, by Kueue, and start by themselves."""
    groups: bool = False
    """Whether one replica of a server may have pods on several hosts, by LeaderWorkerSet."""
    metrics: bool = False
    """Whether the cluster measures what pods use, by Metrics Server, so that it can scale servers."""

    @property
    def control_planes(self) -> tuple[str, ...]:
        """The names of all hosts of the control plane, first the one that makes the cluster; none with `api`."""
        first = () if self.control_plane is None else (self.control_plane,)
        return (*first, *self.further_control_planes)

    @property
    def members(self) -> tuple[str, ...]:
        """The names of all nodes, the control planes first."""
        return (*self.control_planes, *self.workers)

    @property
    def workers(self) -> tuple[str, ...]:
        """The names of the nodes that are no control planes."""
        return tuple(name for name in self.nodes if name not in self.control_planes)

    @property
    def planes_with_pods(self) -> tuple[str, ...]:
        """The names of the control planes that run pods as well."""
        return tuple(name for name in self.control_planes if name in self.nodes)


def problems(
    clusters: Mapping[Name, Cluster], hosts: Mapping[str, Host], stores: Iterable[str] = ()
) -> Iterator[Problem]:
    """Yield the problems of *clusters* on *hosts*, beside object *stores*; paths are relative to the clusters."""
    first: dict[str, str] = {}
    for name, cluster in clusters.items():
        yield from (problem.below(name) for problem in _api_problems(name, cluster, (*hosts, *stores)))
        yield from (problem.below(name) for problem in _member_problems(cluster, hosts))
        yield from (problem.below(name) for problem in _slice_problems(cluster.teams))
        yield from (problem.below(name) for problem in _shared_plane_problems(cluster))
        yield from (problem.below(name) for problem in _controller_problems(cluster))
        yield from (problem.below(name) for problem in _store_problems(cluster))
        yield from (problem.below(name) for problem in _network_problems(cluster, hosts))
        for member in cluster.members:
            if member in hosts and first.setdefault(member, name) != name:
                place = _place(cluster, member)
                problem = Problem(
                    f"got {member}",
                    "a host is in one cluster",
                    "Remove it from one of the two",
                    place,
                    note=f"{first[member]} has it already",
                )
                yield problem.below(name)


def _network_problems(cluster: Cluster, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    if cluster.control_plane and not cluster.provided:
        roles = CONTROL_PLANE_ROLE, NODE_ROLE
        members = (*dict.fromkeys(cluster.members),)
        yield from cluster_network.problems(
            cluster.control_plane, members, hosts, roles, lambda member: _place(cluster, member)
        )


def _place(cluster: Cluster, member: str) -> tuple[str | int, ...]:
    if member == cluster.control_plane:
        return ("control_plane",)
    if member in cluster.further_control_planes:
        return ("further_control_planes", cluster.further_control_planes.index(member))
    return ("nodes", member)


def _slice_problems(teams: Mapping[str, Team]) -> Iterator[Problem]:
    first: dict[int, str] = {}
    for name, team in teams.items():
        if team.slice is not None and first.setdefault(team.slice, name) != name:
            expected, help = "each team has a slice of its own", f"Write another number, 1 to {SLICES - 1}"
            yield Problem(
                f"got {team.slice}", expected, help, ("teams", name, "slice"), note=f"{first[team.slice]} has it"
            )


def _shared_plane_problems(cluster: Cluster) -> Iterator[Problem]:
    """Yield a problem for each team whose pods would reach etcd and the API of a control plane beside them."""
    if cluster.provided or not cluster.planes_with_pods:
        return
    for name, team in cluster.teams.items():
        if team.slice is None:
            problem = f"got no slice, and {cluster.planes_with_pods[0]} runs pods beside the control plane"
            expected = "hosts keep pods of a team with a slice away from the ports of their node, such as those of etcd"
            help = f"Write a slice, or remove {', '.join(cluster.planes_with_pods)} from nodes"
            yield Problem(problem, expected, help, ("teams", name))


def _store_problems(cluster: Cluster) -> Iterator[Problem]:
    """Yield the problem of teams that could fill etcd; others set its limit in a provided cluster."""
    if not cluster.provided:
        pods = {name: team.pods for name, team in cluster.teams.items()}
        yield from (problem.below("teams") for problem in cluster_store.problems(pods, cluster.queue))


def _controller_problems(cluster: Cluster) -> Iterator[Problem]:
    for field, title in (("queue", "Kueue"), ("groups", "LeaderWorkerSet"), ("metrics", "Metrics Server")):
        if getattr(cluster, field) and cluster.provided:
            expected = f"a cluster that rackwright makes: others install {title} in a provided one"
            yield Problem(f"got {field} for a provided cluster", expected, "Remove it", (field,))
    for name, team in cluster.teams.items():
        if team.borrows != BorrowingLimits() and not cluster.queue:
            expected, help = (
                "teams borrow from each other by the queue of their cluster",
                "Write queue: true, or remove it",
            )
            yield Problem("got borrows without a queue", expected, help, ("teams", name, "borrows"))


def _api_problems(name: str, cluster: Cluster, names: Container[str]) -> Iterator[Problem]:
    """Yield the problems of the place of the API: a host with the control plane, or a URL of a provided cluster."""
    if cluster.api is None:
        if cluster.control_plane is None:
            expected = "a host with the control plane, or the API of a cluster that others made"
            yield Problem("got no control_plane and no api", expected, "Write control_plane: HOST, or api")
        return
    place = ("api",)
    if cluster.control_planes:
        expected = "one of both: api is for clusters whose control plane is no host of the fleet"
        yield Problem("got api and a control plane", expected, "Remove api, or the hosts of the control plane", place)
    if not cluster.provided:
        expected = "rackwright makes clusters on hosts of the fleet, and only compares those with api"
        yield Problem("got api without provided: true", expected, "Write provided: true, or control_plane", place)
    if name in names:
        expected = "a cluster with api has another name than each host and each object store"
        yield Problem(
            f"got the cluster {name}", expected, "Give it another name", note="resources begin with that name"
        )


def _member_problems(cluster: Cluster, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    roles = () if cluster.provided else (CONTROL_PLANE_ROLE, NODE_ROLE)
    if cluster.provided != (cluster.version is not None):
        expected = "a provided cluster has a version, and any other one that of its roles"
        help = "Write the version of its API, like 1.37.2" if cluster.provided else "Remove it"
        yield Problem(f"got {'none' if cluster.provided else cluster.version}", expected, help, ("version",))
    if cluster.control_plane is not None:
        yield from _host_problems(cluster.control_plane, roles, hosts, ("control_plane",))
    for number, plane in enumerate(cluster.further_control_planes):
        place = ("further_control_planes", number)
        if plane in cluster.control_planes[: number + 1]:
            yield Problem(f"got {plane}", "each control plane is named once", "Remove it", place)
        else:
            yield from _host_problems(plane, roles, hosts, place)
    if cluster.further_control_planes and not cluster.provided:
        yield from _plane_problems(cluster, hosts)
    for node, declared in cluster.nodes.items():
        if declared.version is not None and not cluster.provided:
            expected = "nodes of a provided cluster have a version, and any other one that of its role"
            yield Problem(f"got {declared.version}", expected, "Remove it", ("nodes", node, "version"))
        if cluster.api is None and node not in cluster.control_planes:
            yield from _host_problems(node, roles[1:], hosts, ("nodes", node))


def _plane_problems(cluster: Cluster, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the problems of several control planes with each other."""
    place, count = ("further_control_planes",), len(cluster.control_planes)
    if count not in CONTROL_PLANE_COUNTS:
        numbers = "1, 3 or 5: a cluster of etcd lives while more than half of its members do"
        help, source = "Name one host more, or one less", 'etcd, "Frequently Asked Questions"'
        yield Problem(f"got {count} control planes", numbers, help, place, source=source)
    declared = {
        plane: hosts[plane].roles[CONTROL_PLANE_ROLE]
        for plane in cluster.control_planes
        if plane in hosts and CONTROL_PLANE_ROLE in hosts[plane].roles
    }
    own = declared.get(cluster.control_planes[0])
    if own is None:
        return
    endpoint = str(own.get("endpoint", ""))
    addresses = {str(variables.get("address", "")) for variables in declared.values()}
    if not endpoint or endpoint.rpartition(":")[0].strip("[]") in addresses:
        expected = "an address of the API that outlives the loss of each host, such as one of role virtual_address"
        help = f"Write the same endpoint in {CONTROL_PLANE_ROLE} of all control planes, like 10.0.0.10:{API_PORT}"
        yield Problem(f"got {f'the endpoint {endpoint}' if endpoint else 'no endpoint'}", expected, help, place)
    for number, plane in enumerate(cluster.further_control_planes):
        for name in EQUAL_ON_CONTROL_PLANES:
            if plane in declared and declared[plane].get(name) != own.get(name):
                problem = f"got {plane}, with another {name} than {cluster.control_planes[0]}"
                help = f"Write {name} of {CONTROL_PLANE_ROLE} in a group of all control planes"
                yield Problem(problem, "control planes of one cluster have the same", help, (*place, number))


def _host_problems(
    name: str, roles: Iterable[str], hosts: Mapping[str, Host], place: tuple[str | int, ...]
) -> Iterator[Problem]:
    if name not in hosts:
        yield Problem(
            f"got {name!r}", f"hosts of the fleet: {', '.join(hosts)}", hint(name, hosts, "Declare it"), place
        )
        return
    for role in roles:
        if role not in hosts[name].roles:
            yield Problem(f"got {name}, without the role {role}", f"it has {role}", f"Add {role} to its roles", place)

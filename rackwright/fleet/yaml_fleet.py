"""The loader of fleets in YAML, which merges groups into hosts and reports all errors with their lines."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, PrivateAttr, ValidationError, model_validator

from rackwright.core.repository import RoleSource
from rackwright.fleet.findings import Findings
from rackwright.fleet.layers import Layers, merge
from rackwright.fleet.monitoring import problems as monitoring_problems
from rackwright.fleet.monitoring import with_roles
from rackwright.fleet.problems import Detail, keys_of
from rackwright.fleet.roles import WHOLE_WAY, SecretCheck
from rackwright.fleet.roles import problems as role_problems
from rackwright.fleet.source import Source
from rackwright.fleet.upgrade import FleetHead
from rackwright.schema import host as one_host
from rackwright.schema import released
from rackwright.schema.alerts import Alerts
from rackwright.schema.allow import Allow
from rackwright.schema.base import SEVERAL_LINES, Many
from rackwright.schema.cluster import Cluster
from rackwright.schema.cluster import problems as cluster_problems
from rackwright.schema.cluster_api import TOKEN_SHORTEST
from rackwright.schema.fleet import Fleet, problems, rollout_problems
from rackwright.schema.health import Health
from rackwright.schema.host import Address, Drive, Host, HostName, Identity, Name, Os
from rackwright.schema.mirror import Mirror
from rackwright.schema.monitoring import Monitoring
from rackwright.schema.object_store import SECRET_KEY_SHORTEST, Bucket, BucketName, ObjectStore
from rackwright.schema.object_store import problems as store_problems
from rackwright.schema.port import Nic
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.profile import HardwareProfile, unknown_profile
from rackwright.schema.rollout import Rollout
from rackwright.schema.secret import FORMS
from rackwright.schema.ssh import Ssh
from rackwright.schema.tier_costs import Costs
from rackwright.schema.tier_placement import PlacementRule
from rackwright.schema.tier_placement import problems as placement_problems


class FleetFile(FleetHead):
    """The form of a fleet's YAML file. A host's own mapping is merged over the mapping of its group."""

    fleet: Name
    """Name of the fleet."""
    ssh: Ssh = Ssh()
    """SSH settings for every host; settings of the group and the host merge over them."""
    alerts: Alerts = Alerts()
    """Alert thresholds for every host; thresholds of the group and the host merge over them."""
    health: Health = Health()
    """Drive thresholds for every host; thresholds of the group and the host merge over them."""
    rollout: Rollout = Rollout()
    """Order and limits in which changes of software, access and network reach the hosts."""
    mirror: Mirror | None = None
    """Source of the packages in the lock; `{}` serves them through the SSH connection of the change."""
    allow: Many[Allow] = ()
    """Undeclared things on hosts that are meant to be there; audits show them as allowed."""
    profiles: dict[Name, HardwareProfile] = Field(default_factory=dict)
    """Profiles of hardware for this fleet's classes of hosts, by the names that hosts give as `profile`."""
    groups: Annotated[dict[Name, dict[str, Any]], SEVERAL_LINES] = Field(default_factory=dict)
    """Settings that several hosts share. Mappings merge, lists and scalars replace, null removes."""
    hosts: Annotated[dict[HostName, dict[str, Any]], SEVERAL_LINES]
    """All machines by name, which is also the host name."""
    clusters: dict[Name, Cluster] = Field(default_factory=dict)
    """Clusters of Kubernetes on these hosts, by name."""
    object_stores: dict[Name, ObjectStore] = Field(default_factory=dict)
    """Servers that speak S3, by name."""
    buckets: dict[BucketName, Bucket] = Field(default_factory=dict)
    """Buckets in these object stores, by name."""
    placement: dict[Name, PlacementRule] = Field(default_factory=dict)
    """Rules that move directories to another tier or to a bucket, by name."""
    costs: Costs | None = None
    """Capacity and prices of the tiers, which `rackwright tier bench` compares."""
    monitoring: Monitoring | None = None
    """Prometheus and Alertmanager for all hosts; without it, hosts have no exporters beside those of their roles."""


class PartialHost(Host):
    """A group, or the valid part of a host with errors, for checks across hosts. No field is required."""

    address: Address = ""
    identity: Identity = Identity.model_construct()
    os: Os = "debian-12"
    _wrong_tiers: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def tier_names(self) -> frozenset[str]:
        return super().tier_names | self._wrong_tiers

    @model_validator(mode="after")
    def _drives_and_tiers_agree(self) -> Self:
        return self

    @model_validator(mode="after")
    def _is_printable(self) -> Self:
        return self


PLACEHOLDERS: dict[str, BaseModel] = {
    "drives": Drive.model_construct(serial=""),
    "nics": Nic.model_construct(name="", mac=""),
}
"""Replacements for a drive or a port with errors, so that the other items keep their indexes."""


def load(
    source: Source, roles: Mapping[str, RoleSource], check_secret: SecretCheck, without: Collection[str] = ()
) -> Fleet:
    """Return the fleet that the YAML file *source* declares.

    Args:
        without: Hosts that a twin leaves out, which become retired ones.

    Raises:
        DeclarationError: all errors of the file.
    """
    layers = Layers(source)
    findings = Findings(layers)
    findings.add_details(FleetFile, _details(FleetFile, layers.source.data), ())
    for name, group in layers.groups.items():
        _check_group(name, group, findings)
    hosts = released.leave_out({name: _host(name, layers, findings) for name in layers.hosts}, without)
    known = {name: host for name, host in hosts.items() if name not in layers.hosts_without_group}
    for problem in problems(known):
        findings.add_below(problem, ())
    for name, host in hosts.items():
        if name in layers.hosts_without_group:
            continue
        for problem in role_problems(host, roles, check_secret):
            if problem.path == WHOLE_WAY:
                findings.discard(("hosts", name, *WHOLE_WAY[:2]))
            findings.add_below(problem, ("hosts", name))
    common = _common(layers.source.data)
    if common is not None and not layers.hosts_without_group:  # else a host without its group would be wrong everywhere
        for problem in rollout_problems(common.rollout, hosts):
            findings.add_below(problem, ())
        for problem in cluster_problems(common.clusters, hosts, common.object_stores):
            findings.add_below(problem, ("clusters",))
        for problem in store_problems(common.object_stores, common.buckets, hosts):
            findings.add_below(problem, ())
        for name, cluster in common.clusters.items():
            if cluster.api and (wrong := check_secret(cluster.api.secret, TOKEN_SHORTEST, FORMS["issued"])):
                findings.add_below(wrong, ("clusters", name, "api", "token"))
        for problem in placement_problems(common.placement, common.buckets, hosts):
            findings.add_below(problem, ())
        for problem in released.problems(common, hosts, without):
            findings.add_below(problem, ())
        if not any(isinstance(host, PartialHost) for host in hosts.values()):  # the addresses may be wrong there
            for problem in monitoring_problems(common.monitoring, hosts, check_secret):
                findings.add_below(problem, ())
        for name, store in common.object_stores.items():
            for place, key in store.secrets:
                if wrong := check_secret(key, SECRET_KEY_SHORTEST, store.secret_form):
                    findings.add_below(wrong, ("object_stores", name, *place))
    findings.raise_any()
    assert common is not None  # raise_any() raised otherwise
    fleet = Fleet(
        fleet=common.fleet,
        rollout=common.rollout,
        mirror=common.mirror,
        allow=common.allow,
        hosts=hosts,
        clusters=common.clusters,
        object_stores=common.object_stores,
        buckets=common.buckets,
        placement=common.placement,
        costs=common.costs,
        monitoring=common.monitoring,
    )
    return with_roles(fleet, roles)


def _common(data: object) -> FleetFile | None:
    """Return the file without the merge of its groups; None if it has errors, which are reported elsewhere."""
    try:
        return FleetFile.model_validate(data)
    except ValidationError:
        return None


def _details(model: type[BaseModel], data: object) -> list[Detail]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def _check_group(name: str, group: dict[str, Any], findings: Findings) -> None:
    """Report the errors of a group by itself, with or without hosts in it."""
    around, layers = group.get("group"), findings.layers
    if isinstance(around, str) and around not in layers.groups:
        help = hint(around, layers.groups, "Declare it under groups")
        expected = f"a declared group: {', '.join(layers.groups)}"
        findings.add(Problem(f"got {around!r}", expected, help), ("groups", name, "group"))
    elif isinstance(around, str) and name in layers.chain(around):
        circle = " in ".join((name, *layers.chain(around)[: layers.chain(around).index(name) + 1]))
        problem = Problem(f"got {around!r}, so {circle}", "a group is not in itself", "Remove one of them")
        findings.add(problem, ("groups", name, "group"))
    # hosts may add keys that a mapping lacks, but they cannot add to an item of a list
    details = (
        detail
        for detail in _details(PartialHost, merge(group))
        if detail["type"] != "missing" or any(isinstance(key, int) for key in detail["loc"])
    )
    findings.add_details(Host, details, ("groups", name))
    profile = group.get("profile")
    if isinstance(profile, str) and profile not in findings.layers.profiles and (wrong := unknown_profile(profile)):
        findings.add_below(wrong, ("groups", name))


def _host(name: str, layers: Layers, findings: Findings) -> Host:
    """Return the host *name*, or its valid part after reporting the errors."""
    place: Keys = ("hosts", name)
    group = layers.hosts[name].get("group")
    if isinstance(group, str) and group not in layers.groups:
        # the rest is checked as with the near name, or not at all: it would be wrong only because of the group
        help = hint(group, layers.groups, "Declare it under groups")
        expected = f"a declared group: {', '.join(layers.groups) or 'none'}"
        problem = Problem(f"got {group!r}", expected, help)
        findings.add(problem, (*place, "group"))
    settings = layers.merge_host(name)
    try:
        return Host.model_validate(settings)
    except ValidationError as error:
        details = error.errors(include_url=False)
        missing = name in layers.hosts_without_group
        own = (each for each in details if not missing or (each["loc"] and each["type"] != "missing"))
        findings.add_details(Host, own, place)
        host = _partial_host(settings, details)
        if name not in layers.hosts_without_group and not any(
            detail["loc"][:1] in ((), ("drives",), ("tiers",)) for detail in details
        ):
            for problem in one_host.problems(host):
                findings.add_below(problem, place)
        return host


def _partial_host(settings: dict[str, Any], details: Sequence[Detail]) -> PartialHost:
    """Return *settings* without the values that *details* reports as wrong."""
    valid, wrong_tiers = dict(settings), set[str]()
    for keys in {keys_of(detail) for detail in details}:
        match keys:
            case ("drives" | "nics" as several, int(index), *_):
                if several == "nics":
                    valid.pop("network", None)  # its check would miss the removed port
                valid[several] = [*valid[several][:index], PLACEHOLDERS[several], *valid[several][index + 1 :]]
            case ("tiers", str(tier), *_):
                wrong_tiers.add(tier)
                valid["tiers"] = {name: value for name, value in valid["tiers"].items() if name != tier}
            case ("hardware", *_):
                valid = {name: value for name, value in valid.items() if name not in ("hardware", "profile")}
            case (field, *_):
                valid.pop(str(field), None)
    host = PartialHost.model_validate(valid)
    host._wrong_tiers = frozenset(wrong_tiers)
    return host

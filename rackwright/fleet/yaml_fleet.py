"""A fleet from a YAML file: groups merged into hosts, and everything that is wrong told at once, with its line."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from rackwright.core.repository import RoleSource
from rackwright.fleet.findings import Findings
from rackwright.fleet.layers import Layers, merge
from rackwright.fleet.problems import Detail, keys_of
from rackwright.fleet.roles import Missing
from rackwright.fleet.roles import problems as role_problems
from rackwright.fleet.source import Source
from rackwright.schema import host as one_host
from rackwright.schema.alerts import Alerts
from rackwright.schema.base import Schema
from rackwright.schema.fleet import Fleet, problems
from rackwright.schema.health import Health
from rackwright.schema.host import Address, Drive, Host, HostName, Identity, Name, Os
from rackwright.schema.mirror import Mirror
from rackwright.schema.port import Nic
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.rollout import Rollout
from rackwright.schema.ssh import Ssh


class FleetFile(Schema):
    """The form of a fleet's YAML file. A host is its group's mapping with its own merged over it."""

    fleet: Name
    """What the hosts are called together."""
    ssh: Ssh = Ssh()
    """Settings for every host; those of its group and its own merge over them."""
    alerts: Alerts = Alerts()
    """Thresholds for the GPUs of every host; those of its group and its own merge over them."""
    health: Health = Health()
    """Thresholds for the drives of every host; those of its group and its own merge over them."""
    rollout: Rollout = Rollout()
    """How changes of software, access and network reach the hosts."""
    mirror: Mirror | None = None
    """Where the hosts get packages that the lock names; `{}`: through the connection that changes them."""
    groups: dict[Name, dict[str, Any]] = Field(default_factory=dict)
    """What several hosts share. Mappings merge, lists and scalars replace, null removes."""
    hosts: dict[HostName, dict[str, Any]]
    """Every machine by its name, which is also its host name."""


class Sound(Host):
    """A group, or what is sound of a host that has errors, to be set beside the others. Nothing in it is needed."""

    address: Address = ""
    identity: Identity = Identity.model_construct()
    os: Os = "debian-12"

    @model_validator(mode="after")
    def _drives_and_tiers_agree(self) -> Self:
        return self


BLANKS: dict[str, BaseModel] = {
    "drives": Drive.model_construct(serial=""),
    "nics": Nic.model_construct(name="", mac=""),
}
"""What stands for a drive or a port that has errors, so that the others keep their places."""


def load(source: Source, roles: Mapping[str, RoleSource], missing: Missing) -> Fleet:
    """Return the fleet that the YAML file *source* declares.

    Raises:
        DeclarationErrors: everything that is wrong in it.
    """
    layers = Layers(source)
    findings = Findings(layers)
    findings.add_details(FleetFile, _details(FleetFile, layers.source.data), ())
    for name, group in layers.groups.items():
        _check_group(name, group, findings)
    hosts = {name: _host(name, layers, findings) for name in layers.hosts}
    for problem in problems(hosts):
        findings.add_below(problem, ())
    for name, host in hosts.items():
        for problem in role_problems(host, roles, missing):
            findings.add_below(problem, ("hosts", name))
    findings.raise_any()
    common = FleetFile.model_validate(layers.source.data)
    return Fleet(fleet=common.fleet, rollout=common.rollout, mirror=common.mirror, hosts=hosts)


def _details(model: type[BaseModel], data: object) -> list[Detail]:
    try:
        model.model_validate(data)
    except ValidationError as error:
        return list(error.errors(include_url=False))
    return []


def _check_group(name: str, group: dict[str, Any], findings: Findings) -> None:
    """Report what is wrong with a group by itself, whether or not a host is in it."""
    if "group" in group:
        problem = Problem(f"got {group['group']!r}", "a group is in no other group", "Remove it")
        findings.add(problem, ("groups", name, "group"))
    # what a mapping leaves out the hosts may add; an item of a list is all there is
    details = (
        detail
        for detail in _details(Sound, merge(group))
        if detail["type"] != "missing" or any(isinstance(key, int) for key in detail["loc"])
    )
    findings.add_details(Host, details, ("groups", name))


def _host(name: str, layers: Layers, findings: Findings) -> Host:
    """Return the host *name*, or what is sound of it and report the rest."""
    place: Keys = ("hosts", name)
    group = layers.hosts[name].get("group")
    if isinstance(group, str) and group not in layers.groups:
        fix = hint(group, layers.groups, "Declare it under groups")
        problem = Problem(f"got {group!r}", f"groups here: {', '.join(layers.groups) or 'none'}", fix)
        findings.add(problem, (*place, "group"))
    merged = layers.merged(name)
    try:
        return Host.model_validate(merged)
    except ValidationError as error:
        details = error.errors(include_url=False)
        findings.add_details(Host, details, place)
        host = _sound(merged, details)
        if not any(detail["loc"][:1] in ((), ("drives",), ("tiers",)) for detail in details):
            for problem in one_host.problems(host):
                findings.add_below(problem, place)
        return host


def _sound(merged: dict[str, Any], details: Sequence[Detail]) -> Sound:
    """Return *merged* without what *details* says is wrong with it."""
    kept = dict(merged)
    for keys in {keys_of(detail) for detail in details}:
        match keys:
            case ("drives" | "nics" as several, int(index), *_):
                if several == "nics":
                    kept.pop("network", None)  # it would be measured against ports that are not there
                kept[several] = [*kept[several][:index], BLANKS[several], *kept[several][index + 1 :]]
            case ("tiers", str(tier), *_):
                kept["tiers"] = {name: value for name, value in kept["tiers"].items() if name != tier}
            case (field, *_):
                kept.pop(str(field), None)
    return Sound.model_validate(kept)

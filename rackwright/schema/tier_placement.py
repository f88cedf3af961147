"""The placement of data over tiers: which directories stay, and which move to another tier or to a bucket."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from rackwright.schema.base import COUNT_MAX, Many, Schema
from rackwright.schema.host import Host, HostName, Name
from rackwright.schema.object_store import Bucket
from rackwright.schema.problem import Problem, hint, raise_any


def _directory(text: str) -> str:
    parts = text.split("/")
    if not all(part == "*" or re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", part) for part in parts):
        expected = "a directory below the tier, such as models, or runs/* for the directories of each run"
        raise Problem(f"got {text!r}", expected, "Write its path below the tier, without / at its start or end")
    return text


class Target(Schema):
    """The place to which directories move."""

    bucket: str | None = None
    """Bucket of the fleet, in which each directory becomes an archive."""
    tier: Name | None = None
    """Tier of the same host."""

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.bucket is None) == (self.tier is None):
            expected = "directories move to one place"
            found = "a bucket and a tier" if self.bucket else "neither a bucket nor a tier"
            raise_any([Problem(f"got {found}", expected, "Write `{bucket: NAME}`, or `{tier: NAME}`")])
        return self


class PlacementRule(Schema):
    """A rule about the directories in one directory of a tier, each of which moves as a whole."""

    tier: Name
    """Tier with the directories."""
    directory: Annotated[str, AfterValidator(_directory)]
    """Directory below the tier's mount point, whose directories the rule is about; `*` stands for any name."""
    to: Target
    """Place to which they move."""
    hosts: Many[HostName] = ()
    """Hosts of the rule; by default all that have the tier."""
    keep: int = Field(default=0, ge=0, le=COUNT_MAX)
    """Number of newest directories that stay in each directory."""
    older_days: int = Field(default=0, ge=0, le=COUNT_MAX)
    """Days since the last change of a directory, before which it stays."""
    above_percent: int | None = Field(default=None, ge=1, le=99)
    """Used share of the tier, below which all stays. Above it, the oldest directories move until it is reached."""
    shared: bool = False
    """Whether directories of one name have the same content on all hosts, and become one archive."""


def problems(
    rules: Mapping[str, PlacementRule], buckets: Mapping[str, Bucket], hosts: Mapping[str, Host]
) -> Iterator[Problem]:
    """Yield the conflicts between rules, buckets and hosts; paths are relative to the fleet."""
    for name, rule in rules.items():
        place = ("placement", name)
        if rule.to.bucket is not None and rule.to.bucket not in buckets:
            expected = f"a declared bucket: {', '.join(buckets) or 'none'}"
            help = hint(rule.to.bucket, buckets, "Declare it under buckets")
            yield Problem(f"got {rule.to.bucket!r}", expected, help, (*place, "to", "bucket"))
        for index, host in enumerate(rule.hosts):
            if host not in hosts:
                expected = f"a host of the fleet: {', '.join(hosts) or 'none'}"
                help = hint(host, hosts, "Remove it", taken=rule.hosts)
                yield Problem(f"got {host}", expected, help, (*place, "hosts", index))
        for host in hosts_of(rule, hosts) or rule.hosts:
            for key, tier in (
                ("tier", rule.tier),
                *([("to", rule.to.tier)] if rule.to.tier not in (None, rule.tier) else ()),
            ):
                if host in hosts and tier not in hosts[host].tier_names:
                    expected = f"a tier of {host}: {', '.join(hosts[host].tiers) or 'none'}"
                    help = hint(tier, hosts[host].tiers, "Name one of them, or declare the tier")
                    yield Problem(f"got {tier}", expected, help, (*place, key))
        if not rule.hosts and not hosts_of(rule, hosts):
            help = "Name such a tier, or declare it under tiers"
            yield Problem(f"got {rule.tier}", "a tier that a host has", help, (*place, "tier"))
        if rule.to.tier == rule.tier:
            help = "Name another tier, or a bucket"
            yield Problem(f"got {rule.tier}", "another tier than that of the rule", help, (*place, "to"))


def hosts_of(rule: PlacementRule, hosts: Mapping[str, Host]) -> tuple[str, ...]:
    """Return the hosts of *rule* that have its tier."""
    names = rule.hosts or [name for name, host in hosts.items() if not host.retired]
    return tuple(name for name in names if name in hosts and rule.tier in hosts[name].tier_names)

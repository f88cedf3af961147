"""The role that follows from the `quarantine` of a fleet's monitoring: the receiver of verdicts."""

from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.errors import quantity
from rackwright.quarantine.hosts import most
from rackwright.schema.host import Host
from rackwright.schema.monitoring import Monitoring
from rackwright.schema.problem import Problem

RECEIVER = "quarantine_receiver"


def problems(monitoring: Monitoring, hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the conflicts between the quarantine of *monitoring* and *hosts*; paths are relative to the fleet."""
    if monitoring.quarantine is None:
        return
    if monitoring.host in hosts and RECEIVER in hosts[monitoring.host].roles:
        expected, help = f"monitoring gives hosts role {RECEIVER}", "Remove it, or remove quarantine of monitoring"
        yield Problem("got the role", expected, help, ("hosts", monitoring.host, "roles", RECEIVER))
    share = monitoring.quarantine.share_percent
    if not most(len(hosts), share):
        problem = f"got {share} % of {quantity(len(hosts), 'host')}, which is less than one host"
        least = -(-100 // len(hosts)) if hosts else 100
        help = f"Write {least} or more" if least <= 50 else "Remove quarantine: a share of 50 % of one host is none"
        keys = ("monitoring", "quarantine", "share_percent")
        yield Problem(problem, "the share is one host or more", help, keys)


def roles_of_host(monitoring: Monitoring, name: str, hosts: Mapping[str, Host]) -> dict[str, dict[str, Any]]:
    """Return the role of the monitoring host with its variables, for a declaration without problems."""
    declared = monitoring.quarantine
    if declared is None or name != monitoring.host:
        return {}
    values = {"port": declared.port, "hosts": sorted(hosts), "share_percent": declared.share_percent}
    return {RECEIVER: {**values, "key": monitoring.key}}

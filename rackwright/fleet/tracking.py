"""Whom the runs of a fleet tell how they get on: servers that role `mlflow` puts on hosts of the fleet that is used."""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from rackwright.core.repository import RoleSource
from rackwright.fleet.roles import Missing
from rackwright.kinds.training_run.spec import TrackingPart
from rackwright.schema.host import Host
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.run import Run, Tracking
from rackwright.schema.secret import name_of

ROLE = "mlflow"
TRAINER = "trainer"
"""The function of accounts that may tell of runs."""


def part(run: Run, hosts: Mapping[str, Host], roles: Mapping[str, RoleSource]) -> TrackingPart | None:
    """Return what the chief of *run* is told of its server, if it has one."""
    told = run.tracking
    if told is None:
        return None
    server = _variables(hosts[told.host], roles)
    own = told.host == run.members(hosts)[0]
    address = ipaddress.ip_address(server["address"])
    shown = f"[{address}]" if address.version == 6 else address
    return TrackingPart(
        url=f"https://{shown}:{server['port']}",
        account=told.account,
        secret=name_of(_accounts(server)[told.account]["password"]),
        certificate=None if own else server["certificate"],
        registers=told.registers,
    )


def secrets(runs: Mapping[str, Run], hosts: Mapping[str, Host]) -> Iterator[str]:
    """Yield the names of the secrets that accounts of *runs* have as passwords."""
    for run in runs.values():
        if run.tracking is not None:
            written = hosts[run.tracking.host].roles[ROLE]
            yield name_of(_accounts(written)[run.tracking.account]["password"])


def problems(
    runs: Mapping[str, Run], hosts: Mapping[str, Host], roles: Mapping[str, RoleSource], missing: Missing
) -> Iterator[Problem]:
    """Yield what is wrong with the tracking of *runs*; paths start at the runs."""
    for name, run in runs.items():
        members = run.members(hosts)
        if run.tracking is None or not members:
            continue
        for problem in _problems(run.tracking, members[0], hosts, roles, missing):
            yield Problem(problem.got, problem.want, problem.fix, (name, "tracking", *problem.path))


def _problems(
    told: Tracking, chief: str, hosts: Mapping[str, Host], roles: Mapping[str, RoleSource], missing: Missing
) -> Iterator[Problem]:
    place: Keys = ("host",)
    servers = [name for name, host in hosts.items() if ROLE in host.roles]
    if told.host not in servers:
        fix = hint(told.host, servers, f"Give a host role {ROLE}")
        yield Problem(f"got {told.host!r}", f"hosts with role {ROLE}: {', '.join(servers) or 'none'}", fix, place)
        return
    server = _variables(hosts[told.host], roles)
    if told.host != chief:
        if ipaddress.ip_address(server["address"]).is_loopback:
            want = f"its role listens on {server['address']} there, where the chief {chief} cannot reach it"
            fix = f"Write address: of role {ROLE}, or let {told.host} be the first of the run's hosts"
            yield Problem(f"got {told.host!r}", want, fix, place)
        if not server["certificate"]:
            want = f"it makes its own certificate, which is not known on the chief {chief}"
            fix = f"Write certificate and key of role {ROLE}, or let {told.host} be the first of the run's hosts"
            yield Problem(f"got {told.host!r}", want, fix, place)
    accounts = _accounts(server)
    trainers = [name for name, account in accounts.items() if account.get("function") == TRAINER]
    if told.account not in trainers:
        fix = hint(told.account, trainers, f"Give role {ROLE} a user of function {TRAINER}")
        want = f"trainers at {told.host}: {', '.join(trainers) or 'none'}"
        yield Problem(f"got {told.account!r}", want, fix, ("account",))
    elif problem := missing(name_of(accounts[told.account]["password"])):
        yield Problem(problem.got, problem.want, problem.fix, ("account",))


def _variables(host: Host, roles: Mapping[str, RoleSource]) -> dict[str, Any]:
    """Return the variables of the role on *host*, by their short names."""
    found = roles[ROLE].variables(host.os, host.variables(ROLE))
    return {name.removeprefix(f"{ROLE}_"): value for name, value in found.items()}


def _accounts(variables: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {user["name"]: user for user in variables.get("users", ())}

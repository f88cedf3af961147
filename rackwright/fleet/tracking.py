"""The tracking servers to which runs report: role `mlflow` on hosts of the fleet that the runs use."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rackwright.core.repository import RoleSource
from rackwright.fleet.roles import SecretCheck
from rackwright.schema.formats import parse_address
from rackwright.schema.host import Host
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.run import Run, Tracking
from rackwright.schema.secret import FORMS, name_of

if TYPE_CHECKING:
    from rackwright.kinds.training_run.spec import TrackingServer

ROLE = "mlflow"
TRAINER = "trainer"
"""The function of accounts that may report runs."""


def server(run: Run, hosts: Mapping[str, Host], roles: Mapping[str, RoleSource]) -> "TrackingServer | None":
    """Return the server to which the launcher of *run* reports; None without tracking."""
    from rackwright.kinds.training_run.spec import TrackingServer

    tracking = run.tracking
    if tracking is None:
        return None
    variables = _role_variables(hosts[tracking.host], roles)
    own = tracking.host == run.members(hosts)[0]
    host = hosts[tracking.host]
    url = roles[ROLE].url(host.os, host.variables(ROLE))
    assert url, f"role {ROLE} has a URL"
    return TrackingServer(
        url=url,
        secret=name_of(_accounts(variables)[tracking.account]["password"]),
        certificate=None if own else variables["certificate"],
    )


def secrets(runs: Mapping[str, Run], hosts: Mapping[str, Host]) -> Iterator[str]:
    """Yield the names of the secrets that are passwords of the accounts of *runs*."""
    for run in runs.values():
        if run.tracking is not None:
            variables = hosts[run.tracking.host].roles[ROLE]
            yield name_of(_accounts(variables)[run.tracking.account]["password"])


def problems(
    runs: Mapping[str, Run], hosts: Mapping[str, Host], roles: Mapping[str, RoleSource], check_secret: SecretCheck
) -> Iterator[Problem]:
    """Yield the problems of the tracking of *runs*; paths are relative to the runs."""
    for name, run in runs.items():
        members = run.members(hosts)
        if run.tracking is None or not members:
            continue
        for problem in _problems(run.tracking, members[0], hosts, roles, check_secret):
            yield problem.below(name, "tracking")


def _problems(
    tracking: Tracking,
    launcher: str,
    hosts: Mapping[str, Host],
    roles: Mapping[str, RoleSource],
    check_secret: SecretCheck,
) -> Iterator[Problem]:
    place: Keys = ("host",)
    servers = [name for name, host in hosts.items() if ROLE in host.roles]
    if tracking.host not in servers:
        help = hint(tracking.host, servers, f"Give a host role {ROLE}")
        expected = f"a host with role {ROLE}: {', '.join(servers) or 'none'}"
        yield Problem(f"got {tracking.host!r}", expected, help, place)
        return
    server = _role_variables(hosts[tracking.host], roles)
    if tracking.host != launcher:
        if parse_address(server["address"]).is_loopback:
            note = f"role {ROLE} on {tracking.host} listens on {server['address']}"
            help = f"Write `address` of role {ROLE}, or make {tracking.host} the first of the run's hosts"
            problem, expected = f"the launcher {launcher} cannot reach {tracking.host}", "an address of its network"
            yield Problem(problem, expected, help, place, note=note)
        if not server["certificate"]:
            problem = f"the launcher {launcher} does not have the certificate of {tracking.host}"
            expected, note = "a declared certificate", f"role {ROLE} creates its own one"
            help = f"Write `certificate` and `key` of role {ROLE}, or make {tracking.host} the first of the run's hosts"
            yield Problem(problem, expected, help, place, note=note)
    accounts = _accounts(server)
    trainers = [name for name, account in accounts.items() if account.get("function") == TRAINER]
    if tracking.account not in trainers:
        help = hint(tracking.account, trainers, f"Give role {ROLE} a user of function {TRAINER}")
        expected = f"a trainer at {tracking.host}: {', '.join(trainers) or 'none'}"
        yield Problem(f"got {tracking.account!r}", expected, help, ("account",))
    else:
        shortest = roles[ROLE].shortest_secret(("users", "password"))
        if short := check_secret(name_of(accounts[tracking.account]["password"]), shortest, FORMS["issued"]):
            yield short.below("account")


def _role_variables(host: Host, roles: Mapping[str, RoleSource]) -> dict[str, Any]:
    """Return the variables of the role on *host*, by their names without the role's prefix."""
    variables = roles[ROLE].variables(host.os, host.variables(ROLE))
    return {name.removeprefix(f"{ROLE}_"): value for name, value in variables.items()}


def _accounts(variables: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {user["name"]: user for user in variables.get("users", ())}

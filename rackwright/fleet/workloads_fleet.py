"""The loader of fleets of runs and servers, in YAML files that use the hosts of another fleet."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from rackwright.core.repository import RoleSource
from rackwright.fleet import tracking
from rackwright.fleet.findings import Findings
from rackwright.fleet.layers import Layers
from rackwright.fleet.problems import Detail
from rackwright.fleet.roles import SecretCheck
from rackwright.fleet.source import BYTES_MAX, Source
from rackwright.fleet.upgrade import FleetHead
from rackwright.schema import released
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Name
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.run import Run
from rackwright.schema.run import problems as run_problems
from rackwright.schema.secret import CLIENT_KEY_SHORTEST, FORMS, SHORTEST, Form, Key, name_of
from rackwright.schema.server import Server, ports_of_runs
from rackwright.schema.server import problems as server_problems

M = TypeVar("M", Run, Server)


class RunsFile(FleetHead):
    """The form of the YAML file of a fleet of runs and servers."""

    fleet: Name
    """Name of the fleet."""
    uses: str
    """File of the fleet whose hosts carry the runs and servers, in the same folder."""
    key: Key = Field(default_factory=lambda: {"secret": "training_key"})
    """Secret from which the keys of runs, and of hosts that query their own servers, are derived: `{secret: NAME}`."""
    runs: dict[Name, Run] = Field(default_factory=dict)
    """Training runs by name."""
    servers: dict[Name, Server] = Field(default_factory=dict)
    """Model servers by name."""

    @model_validator(mode="after")
    def _declares_workloads(self) -> Self:
        if not self.model_fields_set & {"runs", "servers"}:
            raise Problem("the fleet has neither runs nor servers", "at least one run or server", "Add one")
        return self


def load(
    source: Source,
    roles: Mapping[str, RoleSource],
    check_secret: SecretCheck,
    load_hosts: Callable[[Path], Fleet],
    without: Collection[str] = (),
) -> Fleet:
    """Return the fleet that *source* declares, with the hosts of the fleet that it uses.

    Args:
        load_hosts: Loads the fleet that *source* uses.
        without: Hosts that a twin leaves out, which the fleet in use has as retired ones.

    Raises:
        DeclarationError: all errors of the file; the errors of the fleet that it uses come alone and first.
    """
    findings = Findings(Layers(source))
    hosts = _load_used(source, findings, load_hosts)
    try:
        file = RunsFile.model_validate(source.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        findings.add_details(RunsFile, details, ())
        runs, servers = _valid_entries(source, "runs", Run, details), _valid_entries(source, "servers", Server, details)
    else:
        runs, servers = file.runs, file.servers
        if hosts is not None:
            for keys, name, shortest, form in _secrets(file, hosts):
                if problem := check_secret(name, shortest, form):
                    findings.add_below(problem, keys)
    if hosts is not None:
        for problem in (
            *run_problems(runs, hosts.hosts, hosts.clusters),
            *tracking.problems(runs, hosts.hosts, roles, check_secret),
        ):
            findings.add_below(problem, ("runs",))
        for problem in server_problems(servers, hosts.hosts, hosts.clusters):
            findings.add_below(problem, ("servers",))
        for problem in released.workload_problems(runs, servers, hosts.hosts, without):
            findings.add_below(problem, ())
        for problem in ports_of_runs(servers, runs, hosts.hosts):
            findings.add_below(problem, ())
    findings.raise_any()
    assert hosts is not None  # raise_any() raised otherwise
    own = {"fleet": file.fleet, "uses": file.uses, "key": file.key, "runs": runs, "servers": servers}
    # roles bring packages to hosts, and the roles and all undeclared things belong to the other stack
    return hosts.model_copy(update={**own, "mirror": None, "allow": ()})


def _secrets(file: RunsFile, hosts: Fleet) -> Iterator[tuple[Keys, str, int, Form | None]]:
    """Yield the keys of the reference, the name, the minimum length and the form of each secret of the fleet."""
    if any(len(run.members(hosts.hosts)) > 1 and run.on == "hosts" for run in file.runs.values()) or any(
        server.keys for server in file.servers.values()
    ):
        yield ("key",), name_of(file.key), SHORTEST, None
    for name, server in file.servers.items():
        for client, key in server.keys.items():
            yield ("servers", name, "keys", client, "secret"), key.secret, CLIENT_KEY_SHORTEST, None
        if server.tls:
            for field, form in (("certificate", "certificate"), ("key", "private_key")):
                reference = getattr(server.tls, field)
                yield ("servers", name, "tls", field), name_of(reference), SHORTEST, FORMS[form]


def _load_used(source: Source, findings: Findings, load_hosts: Callable[[Path], Fleet]) -> Fleet | None:
    """Return the fleet that *source* uses; None after reporting a wrong name."""
    name = source.data["uses"]
    if not isinstance(name, str):
        return None  # RunsFile reports the wrong type
    path = source.path.parent / name
    fleets = [each.name for each in sorted(path.parent.glob("*.yaml")) if each != source.path and _has_hosts(each)]
    if name not in fleets:
        expected = f"a fleet with hosts beside this file: {', '.join(fleets) or 'none'}"
        help = hint(name, fleets, "Name one of these" if fleets else "Correct the name")
        findings.add(Problem(f"got {name!r}", expected, help), ("uses",))
        return None
    return load_hosts(path)


def _has_hosts(path: Path) -> bool:
    """Return whether a file has the keys of a fleet with hosts, and not only a name that ends like one."""
    with path.open("rb") as file:
        keys = {*re.findall(rb"^(\w+):", file.read(BYTES_MAX), re.M)}
    return {b"fleet", b"hosts"} <= keys and b"uses" not in keys


def _valid_entries(source: Source, table: str, model: type[M], details: Sequence[Detail]) -> dict[str, M]:
    """Return the entries of *table* that have no error of their own."""
    wrong = {str(detail["loc"][1]) for detail in details if detail["loc"][:1] == (table,) and len(detail["loc"]) > 1}
    data = source.data.get(table)
    entries = data if isinstance(data, dict) else {}
    return {name: model.model_validate(entry) for name, entry in entries.items() if name not in wrong}

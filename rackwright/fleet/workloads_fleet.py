"""A fleet of runs and servers, from a YAML file that uses the hosts of another one."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from rackwright.core.repository import RoleSource
from rackwright.fleet import tracking
from rackwright.fleet.findings import Findings
from rackwright.fleet.layers import Layers
from rackwright.fleet.problems import Detail
from rackwright.fleet.roles import Missing
from rackwright.fleet.source import BYTES_MAX, Source
from rackwright.schema.base import Schema
from rackwright.schema.fleet import Fleet
from rackwright.schema.host import Name
from rackwright.schema.problem import Keys, Problem, hint
from rackwright.schema.run import Run
from rackwright.schema.run import problems as run_problems
from rackwright.schema.secret import Key, name_of
from rackwright.schema.server import Server
from rackwright.schema.server import problems as server_problems

M = TypeVar("M", Run, Server)


class RunsFile(Schema):
    """The form of the YAML file of a fleet of runs and servers."""

    fleet: Name
    """What they are called together."""
    uses: str
    """The file of the fleet whose hosts they stand on, beside this one."""
    key: Key = Field(default_factory=lambda: {"secret": "training_key"})
    """What the keys of its runs, and those by which hosts ask their own servers, are made of: `{secret: NAME}`."""
    runs: dict[Name, Run] = Field(default_factory=dict)
    """Trainings by name."""
    servers: dict[Name, Server] = Field(default_factory=dict)
    """Models that are served, by name."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set & {"runs", "servers"}:
            raise Problem("got neither runs nor servers", "a fleet that uses another's hosts has some", "Add one")
        return self


def load(source: Source, roles: Mapping[str, RoleSource], missing: Missing, used: Callable[[Path], Fleet]) -> Fleet:
    """Return the fleet that *source* declares, with the hosts of the one that it uses.

    Args:
        used: Loads that one.

    Raises:
        DeclarationErrors: everything that is wrong in it; before that, what is wrong in the fleet that it uses.
    """
    findings = Findings(Layers(source))
    hosts = _used(source, findings, used)
    try:
        told = RunsFile.model_validate(source.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        findings.add_details(RunsFile, details, ())
        runs, servers = _sound(source, "runs", Run, details), _sound(source, "servers", Server, details)
    else:
        runs, servers = told.runs, told.servers
        if hosts is not None:
            for keys, name in _secrets(told, hosts):
                if problem := missing(name):
                    findings.add_below(problem, keys)
    if hosts is not None:
        for problem in (*run_problems(runs, hosts.hosts), *tracking.problems(runs, hosts.hosts, roles, missing)):
            findings.add_below(problem, ("runs",))
        for problem in server_problems(servers, hosts.hosts):
            findings.add_below(problem, ("servers",))
    findings.raise_any()
    assert hosts is not None  # or there is a finding
    own = {"fleet": told.fleet, "uses": told.uses, "key": told.key, "runs": runs, "servers": servers}
    # packages are brought to hosts by roles, and these are of the other stack
    return hosts.model_copy(update={**own, "mirror": None})


def _secrets(told: RunsFile, hosts: Fleet) -> Iterator[tuple[Keys, str]]:
    """Yield each secret that is needed, once, and where it is referred to."""
    if any(len(run.members(hosts.hosts)) > 1 for run in told.runs.values()) or any(
        server.keys for server in told.servers.values()
    ):
        yield ("key",), name_of(told.key)
    for name, server in told.servers.items():
        for who, key in server.keys.items():
            yield ("servers", name, "keys", who, "secret"), key.secret
        if server.tls:
            yield ("servers", name, "tls", "certificate"), name_of(server.tls.certificate)
            yield ("servers", name, "tls", "key"), name_of(server.tls.key)


def _used(source: Source, findings: Findings, used: Callable[[Path], Fleet]) -> Fleet | None:
    """Return the fleet that *source* uses, or report why there is none."""
    name = source.data["uses"]
    if not isinstance(name, str):
        return None  # wrong by itself, and told as such
    path = source.path.parent / name
    known = [other.name for other in sorted(path.parent.glob("*.yaml")) if _has_hosts(other)]
    if name not in known:
        want, fix = f"fleets here: {', '.join(known)}", hint(name, known, "Take one of these")
        findings.add(Problem(f"got {name!r}", want, fix), ("uses",))
        return None
    return used(path)


def _has_hosts(path: Path) -> bool:
    with path.open("rb") as file:
        return re.search(rb"^hosts:", file.read(BYTES_MAX), re.M) is not None


def _sound(source: Source, table: str, model: type[M], details: Sequence[Detail]) -> dict[str, M]:
    """Return what in *table* is right by itself."""
    wrong = {str(detail["loc"][1]) for detail in details if detail["loc"][:1] == (table,) and len(detail["loc"]) > 1}
    listed = source.data.get(table)
    found = listed if isinstance(listed, dict) else {}
    return {name: model.model_validate(one) for name, one in found.items() if name not in wrong}

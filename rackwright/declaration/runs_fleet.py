"""A fleet of runs, from a YAML file that uses the hosts of another one."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from rackwright.declaration import tracking
from rackwright.declaration.findings import Findings
from rackwright.declaration.layers import Layers
from rackwright.declaration.roles import Missing
from rackwright.declaration.source import Source
from rackwright.kinds.house import RoleSource
from rackwright.spec.fleet import Fleet
from rackwright.spec.host import Name
from rackwright.spec.model import Model
from rackwright.spec.problem import Problem, hint
from rackwright.spec.run import Key, Run, problems
from rackwright.spec.secret import name_of


class RunsFile(Model):
    """The form of the YAML file of a fleet of runs."""

    fleet: Name
    """What the runs are called together."""
    uses: str
    """The file of the fleet whose hosts they stand on, beside this one."""
    key: Key = Field(default_factory=lambda: {"secret": "training_key"})
    """What the keys of its runs are made of: `{secret: NAME}`."""
    runs: dict[Name, Run]
    """Trainings by name."""


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
        wrong = {
            str(detail["loc"][1]) for detail in details if detail["loc"][:1] == ("runs",) and len(detail["loc"]) > 1
        }
        runs = _sound(source, wrong)
    else:
        runs = told.runs
        secret = name_of(told.key)
        if any(len(run.members(hosts.hosts)) > 1 for run in runs.values() if hosts) and (problem := missing(secret)):
            findings.add_below(problem, ("key",))
    if hosts is not None:
        for problem in (*problems(runs, hosts.hosts), *tracking.problems(runs, hosts.hosts, roles, missing)):
            findings.add_below(problem, ("runs",))
    findings.raise_any()
    assert hosts is not None  # or there is a finding
    return hosts.model_copy(update={"fleet": told.fleet, "uses": told.uses, "key": told.key, "runs": told.runs})


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
    return re.search(rb"^hosts:", path.read_bytes(), re.M) is not None


def _sound(source: Source, wrong: set[str]) -> dict[str, Run]:
    """Return the runs that are right by themselves."""
    listed = source.data.get("runs")
    runs = listed if isinstance(listed, dict) else {}
    return {name: Run.model_validate(run) for name, run in runs.items() if name not in wrong}

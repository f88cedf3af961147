"""What a training run is: a recipe, the hosts it stands on, and the tier that keeps its checkpoints."""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, ValidationError, model_validator

from rackwright.schema import placement
from rackwright.schema.base import Many, Schema
from rackwright.schema.host import Host, Name
from rackwright.schema.network import Network, links
from rackwright.schema.problem import Keys, Problem, hint, raise_any
from workloads.recipes import RECIPES
from workloads.training.config import TrainingConfig

NAME_MAX = 28
"""Its account is called ``run-NAME``, and Linux takes 32 characters. Source: useradd(8)."""
PORT = 7022
RESERVED = {"launcher", "world", "elastic", "name"}
"""Keys of a training's configuration that follow from the run itself."""


def _absolute(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", path) or ".." in path.split("/"):
        want = "it is an absolute path of letters, digits and . _ -"
        raise Problem(f"got {path!r}", want, "Write it like /data/images")
    return path


Path = Annotated[str, AfterValidator(_absolute)]


def _model(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        want = "a model is called by letters, digits, _ and -"
        raise Problem(f"got {name!r}", want, "Write it like digits")
    return name


class Checkpoints(Schema):
    """Where checkpoints are kept."""

    tier: Name
    """Name of a tier that every host of the run has."""


class Environment(Schema):
    """What the processes of a run import: PyTorch, Horovod and what these need."""

    path: Path
    """Of a virtual environment that is there on every host of the run, the same everywhere."""


class Tracking(Schema):
    """Whom a run tells how it gets on: the MLflow server that role `mlflow` puts on a host of the fleet."""

    host: str
    """Of the server. Where that is not the chief, the role's variables say its certificate."""
    account: str
    """One of the server's accounts, which is a trainer's."""
    registers: Annotated[str, AfterValidator(_model)] | None = Field(default=None, alias="register")
    """Of which model the checkpoint of a run that is finished becomes a version."""


class Elastic(Schema):
    """Hosts may be lost while it runs, and come back: what is lost is the steps since the last commit."""

    min_processes: PositiveInt = 1
    """With fewer it waits for others, and ends when none come."""


class Run(Schema):
    """A training on one host or several, started by `up` and not waited for."""

    recipe: str
    """A recipe of `workloads/recipes`, by name."""
    hosts: Many[str] = ()
    """Hosts of the fleet that is used. The first is the chief: it starts the others, and writes the checkpoints."""
    group: str | None = None
    """In the place of hosts: all of a group, in the order of the fleet."""
    processes: PositiveInt = 1
    """On each host: as many as it has GPUs."""
    data: Path | None = None
    """File or directory that the recipe's data is read from; the same on every host."""
    checkpoints: Checkpoints
    """Where it writes, below ``runs/NAME`` of a tier's mount."""
    tracking: Tracking | None = None
    """Which MLflow server it tells how it gets on, by its role."""
    launcher: Literal["horovod", "torchrun"] = "horovod"
    """Who starts the processes, and averages between them."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values instead of the recipe's, as `python -m workloads.training RECIPE --print` shows them."""
    elastic: Elastic | None = None
    """Only of Horovod."""
    restart: Literal["on-failure", "never"] = "on-failure"
    """What follows when it fails: it goes on from its last checkpoint, or waits for a person."""
    grace_seconds: Annotated[int, Field(ge=10)] = 90
    """How long a run that is stopped has for its last checkpoint."""
    environment: Environment | None = None
    """What its processes import, where role `workloads` does not make it: ``/opt/workloads`` if nothing is said."""
    port: Annotated[int, Field(ge=1024, le=65535)] = PORT
    """On the fabric address of every host but the chief: where the chief logs in to start processes."""
    go_on: bool = Field(default=False, alias="continue")
    """Take up a finished run with another configuration, from its last checkpoint."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        raise_any(_problems(self))
        return self

    def members(self, hosts: Mapping[str, Host]) -> tuple[str, ...]:
        """Return its hosts of *hosts*, the chief first."""
        return placement.members(self, hosts)

    def config(self, name: str, hosts: int) -> TrainingConfig:
        """Return the whole configuration of the run *name* on so many hosts.

        Raises:
            ValidationError: a value of `set` cannot be.
        """
        values = _merged(RECIPES[self.recipe]().model_dump(mode="json"), self.set)
        values |= {"name": name, "launcher": self.launcher, "elastic": self.elastic is not None}
        values["world"] = None if self.elastic else hosts * self.processes
        if self.data is not None and isinstance(values["data"], dict):
            values["data"]["path"] = self.data
        return TrainingConfig.model_validate_json(json.dumps(values))


def _problems(run: Run) -> Iterator[Problem]:
    if run.recipe not in RECIPES:
        fix = hint(run.recipe, RECIPES, "Take one of these")
        yield Problem(f"got {run.recipe!r}", f"recipes are {', '.join(RECIPES)}", fix, ("recipe",))
    yield from placement.problems(run, "a run", "a host is named once", "Raise processes instead")
    if run.elastic and run.launcher != "horovod":
        want, fix = "only Horovod lets hosts come and go", "Take elastic out, or launcher: horovod"
        yield Problem(f"got elastic with launcher {run.launcher}", want, fix, ("elastic",))
    for name in sorted(RESERVED & run.set.keys()):
        want = "it follows from the run: its name, its hosts, its launcher"
        yield Problem(f"got {name}", want, "Take it out", ("set", name))


def problems(runs: Mapping[str, Run], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield what is wrong with *runs* on *hosts*; paths start at the runs."""
    for name, run in runs.items():
        if len(name) > NAME_MAX:
            want = f"an account is called after it: {NAME_MAX} characters at most"
            yield Problem(f"got the name {name!r}", want, "Shorten it", (name,))
        members = run.members(hosts)
        known = [member for member in members if member in hosts]
        wrong = [*placement.unknown(run, hosts), *_without_tier(run, hosts, known), *_configured(name, run, members)]
        if not wrong and len(members) > 1:
            wrong = [*_apart(run, hosts, members)]
        for problem in wrong:
            yield Problem(problem.got, problem.want, problem.fix, (name, *problem.path))
    yield from _taken(runs, hosts)


def _without_tier(run: Run, hosts: Mapping[str, Host], members: list[str]) -> Iterator[Problem]:
    tier = run.checkpoints.tier
    place: Keys = ("checkpoints", "tier")
    lacking = [member for member in members if tier not in hosts[member].tiers]
    for member in lacking:
        known = ", ".join(hosts[member].tiers) or "none"
        want = f"{member} has not: its tiers are {known}" if known != "none" else f"{member} has no tiers"
        fix = f"Declare tier {tier} on {member}, or take {member} out of the run"
        yield Problem(f"got {tier!r}", want, fix, place)
    mounts = {hosts[member].tiers[tier].mount: member for member in reversed(members) if member not in lacking}
    if len(mounts) > 1:
        told = " and ".join(f"{mount} on {member}" for mount, member in sorted(mounts.items()))
        want = "all processes write below one path"
        yield Problem(f"got {tier!r}, which is {told}", want, "Mount it at the same place everywhere", place)


def _configured(name: str, run: Run, members: tuple[str, ...]) -> Iterator[Problem]:
    if not members:
        return
    try:
        config = run.config(name, len(members))
    except ValidationError as error:
        for found in error.errors(include_url=False):
            value = found["input"] if isinstance(found["input"], str | int | float | bool | None) else "other values"
            want = found["msg"][:1].lower() + found["msg"][1:].removeprefix("alue error, ")
            fix = "See `python -m workloads.training RECIPE --print`"
            yield Problem(f"got {value!r}", want, fix, ("set", *found["loc"]))
        return
    if run.data is not None and not hasattr(config.data, "path"):
        want = f"recipe {run.recipe} brings its own data"
        yield Problem(f"got {run.data!r}", want, "Take data out, or another recipe", ("data",))
    world = len(members) * run.processes
    if config.global_batch % world:
        want = f"{world} processes share it evenly"
        near = max(world, config.global_batch - config.global_batch % world)
        fix = f"Write set: {{global_batch: {near}}}, or another number of processes"
        yield Problem(f"got a global batch of {config.global_batch}", want, fix, ("set", "global_batch"))
    if run.elastic and run.elastic.min_processes > world:
        want, fix = f"{world} processes are all there are", "Lower it"
        place = ("elastic", "min_processes")
        yield Problem(f"got {run.elastic.min_processes}", want, fix, place)


def address(host: Host) -> str | None:
    """Return the address of *host* with its prefix, ``192.0.2.11/24``, on the interface that is its fabric."""
    if host.fabric is None:
        return None
    return next(iter(links(host.network or Network(), host.nics)[host.fabric].addresses), None)


def _apart(run: Run, hosts: Mapping[str, Host], members: tuple[str, ...]) -> Iterator[Problem]:
    """Yield why processes on these hosts would not find each other."""
    place: Keys = ("group",) if run.group is not None else ("hosts",)
    addresses = {member: address(hosts[member]) for member in members}
    for member, found in addresses.items():
        if found is None:
            fix = f"Declare network: {{}} and addresses of the port on {member}"
            yield Problem(f"got {member}", "it has no fabric: no network with addresses is declared", fix, place)
    if None in addresses.values():
        return
    first, *others = members
    for other in others:
        if hosts[other].fabric != hosts[first].fabric:
            got = f"got {other}, whose fabric is {hosts[other].fabric}"
            want = f"that of {first} is {hosts[first].fabric}, and Horovod takes one name everywhere"
            yield Problem(got, want, "Give both ports one name", place, "horovodrun --network-interfaces")
        networks = [ipaddress.ip_interface(str(addresses[member])).network for member in (first, other)]
        if networks[0] != networks[1]:
            got = f"got {other}, whose fabric is in {networks[1]}"
            yield Problem(got, f"that of {first} is in {networks[0]}", "Give both an address in one network", place)


def _taken(runs: Mapping[str, Run], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each port of a host that two runs would listen on."""
    first: dict[tuple[str, int], str] = {}
    for name, run in runs.items():
        for member in run.members(hosts)[1:]:
            other = first.setdefault((member, run.port), name)
            if other != name:
                want = f"run {other} listens there on {member}"
                fix = "Give each run a port of its own"
                yield Problem(f"got port {run.port}", want, fix, (name, "port"), also=(other,))
                break


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(value, Mapping) and isinstance(under, dict) else value
    return merged

"""Training runs: a recipe, the hosts, and the tier for checkpoints."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from rackwright.errors import command
from rackwright.schema import placement
from rackwright.schema import pods as on_pods
from rackwright.schema.base import COUNT_MAX, Count, Many, Schema
from rackwright.schema.cluster import Cluster
from rackwright.schema.formats import parse_interface
from rackwright.schema.gpus import GpuSelection, count
from rackwright.schema.host import Host, Name
from rackwright.schema.network import Network, links
from rackwright.schema.pods import On, Pods
from rackwright.schema.problem import Keys, Problem, hint, raise_any, setting_problems
from rackwright.schema.process_variables import ProcessVariables
from workloads.privacy_settings import Privacy

if TYPE_CHECKING:
    from workloads.training.config import TrainingConfig

NAME_MAX = 28
"""Maximum length, because the run's account is ``run-NAME`` and Linux accepts 32 characters. Source: useradd(8)."""
PORT = 7022
RENDEZVOUS_PORT = 29400
LEDGER: Keys = ("privacy", "budget", "ledger")
RESERVED = {"launcher", "world", "elastic", "name", "privacy"}
"""Keys of a training's configuration that follow from the run itself."""


def _absolute(path: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", path) or ".." in path.split("/"):
        expected = "a path is absolute and has letters, digits and . _ - /"
        raise Problem(f"got {path!r}", expected, "Write it like /data/images")
    return path


Path = Annotated[str, AfterValidator(_absolute)]
SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "opt", "proc", "root", "run", "sbin", "sys",
          "tmp", "usr", "var")  # fmt: skip
"""Directories of the system below the root, of which pods are shown nothing by the declaration of a run."""
FILES = (".json", ".jsonl", ".npz", ".parquet", ".txt")
"""Ends of the names of files with data."""
VOLATILE = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/run", "/var/tmp")
"""Directories whose files do not outlive a restart, or which all accounts share."""


def _model(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        expected = "the name of a model has letters, digits, _ and -"
        raise Problem(f"got {name!r}", expected, "Write it like digits")
    return name


class CheckpointPolicy(Schema):
    """Storage of checkpoints."""

    tier: Name
    """Name of a tier that all hosts of the run have."""


class Environment(Schema):
    """Python environment of the processes, with PyTorch, Horovod and their dependencies."""

    path: Path
    """Path of a virtual environment, the same on all hosts."""


class Tracking(Schema):
    """The MLflow server to which a run reports, from role `mlflow` on a host of the fleet."""

    host: str
    """Host of the server. If it is not the launcher, the role's variables must contain its certificate."""
    account: str
    """Account of the server with the function `trainer`."""
    registers: Annotated[str, AfterValidator(_model)] | None = Field(default=None, alias="register")
    """Registered model that gets a new version from the checkpoint of the finished run."""


class Elastic(Schema):
    """Elastic training, which survives the loss and return of hosts and loses only the steps since the last commit."""

    min_processes: Count = 1
    """Minimum number of processes; with fewer the run waits for others, and ends if none come."""


class Run(Schema):
    """A training run on one or more hosts; `up` starts it and does not wait for its end."""

    recipe: str
    """Name of a recipe; `rackwright run recipes` lists them."""
    hosts: Many[str] = ()
    """Hosts of the used fleet. The first one is the launcher: it starts the workers and writes the checkpoints."""
    group: str | None = None
    """Group whose hosts are taken instead of `hosts`, in the order of the fleet."""
    on: On = "hosts"
    """Carrier of the processes: `hosts` for units of the hosts, `kubernetes` for pods of their cluster."""
    pods: Pods | None = None
    """Pods of a run on Kubernetes; the pod with the checkpoints stays on the first host."""
    processes: Count = 1
    """Number of processes on each host, usually the number of its GPUs."""
    gpus: GpuSelection | None = None
    """GPUs of each host for this run: how many, their indices in the order of the PCI bus, or on a single host their
    UUIDs. All of them by default; runs and servers that share a host declare it."""
    data: Path | None = None
    """File or directory with the recipe's data, the same path on all hosts."""
    checkpoints: CheckpointPolicy
    """Storage of the run's checkpoints, in ``runs/NAME`` of a tier."""
    tracking: Tracking | None = None
    """MLflow server to which the run reports."""
    launcher: Literal["horovod", "torchrun"] = "horovod"
    """Program that starts the processes, and averages between them. A language model on hosts with GPUs takes torchrun
    unless the run names a launcher or is elastic."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values that replace the recipe's, in the form of `rackwright run recipes RECIPE`. Mappings are merged; a model or
    data of another `kind` replaces that of the recipe."""
    privacy: Privacy | None = None
    """Promise of differential privacy to the rows of the data; the guide "Train with differential privacy" has the
    settings that a run cannot have with it."""
    elastic: Elastic | None = None
    """Elastic training; only with Horovod."""
    restart: Literal["on-failure", "never"] = "on-failure"
    """Reaction to a failure: `on-failure` continues from the last checkpoint, `never` leaves that to the operator."""
    grace_seconds: Annotated[int, Field(ge=10, le=COUNT_MAX)] = 90
    """Seconds that a stopped run has for its last checkpoint."""
    environment: Environment | None = None
    """Python environment of the processes; by default that of role `workloads`, else ``/opt/workloads``."""
    port: Annotated[int, Field(ge=1024, le=65535)] = PORT
    """Port of the sshd on the workers' fabric addresses, through which the launcher starts processes."""
    rendezvous_port: Annotated[int, Field(ge=1024, le=65535)] = RENDEZVOUS_PORT
    """Port on the launcher's fabric address where the processes of torchrun meet; on a single host they choose a free
    port themselves."""
    variables: ProcessVariables = Field(default_factory=dict)
    """Environment variables of the processes that tune communication, memory, logs and kernels. The list of
    their names is docs/reference/variables.md. They are no place for secrets: they are part of command lines."""
    go_on: bool = Field(default=False, alias="continue")
    """Continue a finished run with another configuration, from its last checkpoint."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_noisy_rows(cls, values: Any) -> Any:
        privacy = values.get("privacy") if isinstance(values, Mapping) else None
        if isinstance(privacy, Mapping) and "noise" in privacy:
            expected = "the noise of each step, which follows from epsilon; noise on rows protects none of their owners"
            raise_any([Problem(f"got noise {privacy['noise']}", expected, "Write epsilon", ("privacy", "noise"))])
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        raise_any(_problems(self))
        return self

    def members(self, hosts: Mapping[str, Host]) -> tuple[str, ...]:
        """Return the hosts of the run, the launcher first."""
        return placement.members(self, hosts)

    def workers(self, hosts: Mapping[str, Host]) -> int:
        """Return the number of hosts that the run uses at one time; a run in pods may have spare hosts."""
        return (self.pods and self.pods.count) or len(self.members(hosts))

    def with_launcher(self, hosts: Mapping[str, Host]) -> "Run":
        """Return the run with the launcher that its model and its hosts ask for."""
        from workloads.recipes import RECIPES

        if "launcher" in self.model_fields_set or self.elastic or self.recipe not in RECIPES:
            return self
        if self.on == "kubernetes":
            return self.model_copy(update={"launcher": "torchrun"})
        model = _replace(RECIPES[self.recipe]().model_dump(mode="json"), self.set).get("model")
        kind = model.get("kind") if isinstance(model, dict) else None
        gpus = any(hosts[member].minimum.gpus for member in self.members(hosts) if member in hosts)
        return self.model_copy(update={"launcher": "torchrun"}) if gpus and kind != "image-classifier" else self

    def config(self, name: str, hosts: int) -> "TrainingConfig":
        """Return the whole configuration of the run *name* on *hosts* hosts.

        Raises:
            ValidationError: a value of `set` is invalid.
        """
        from workloads.recipes import RECIPES
        from workloads.training.config import TrainingConfig

        values = _replace(RECIPES[self.recipe]().model_dump(mode="json"), self.set)
        values |= {"name": name, "launcher": self.launcher, "elastic": self.elastic is not None}
        values["world"] = None if self.elastic else hosts * self.processes
        if self.data is not None and isinstance(values["data"], dict):
            values["data"]["path"] = self.data
        if self.privacy is not None:
            values["privacy"] = self.privacy.model_dump(mode="json")
        return TrainingConfig.model_validate_json(json.dumps(values))

    def config_text(self, name: str, hosts: int) -> str:
        """Return `config` as JSON without its defaults, so that a new default of the trainer does not change a run."""
        config = self.config(name, hosts)
        settings = _with_kinds(config.model_dump(mode="json", exclude_defaults=True), config.model_dump(mode="json"))
        return json.dumps(settings, indent=2) + "\n"


def _problems(run: Run) -> Iterator[Problem]:
    from workloads.recipes import RECIPES

    if run.recipe not in RECIPES:
        help = hint(run.recipe, RECIPES, "Take one of these")
        yield Problem(f"got {run.recipe!r}", f"recipes are {', '.join(RECIPES)}", help, ("recipe",))
    yield from placement.problems(run, "a run", "a host is named once", "Raise processes instead")
    if run.elastic and run.launcher != "horovod":
        expected, help = "only Horovod lets hosts come and go", "Remove elastic, or write launcher: horovod"
        yield Problem(f"got elastic with launcher {run.launcher}", expected, help, ("elastic",))
    yield from on_pods.own_problems(run, "a run", {"tracking": run.tracking, "elastic": run.elastic})
    yield from _gpu_problems(run)
    if run.pods and run.pods.autoscale:
        expected = "the pods of a run are as many from its first step to its last"
        yield Problem("got autoscale of a run", expected, "Remove autoscale", ("pods", "autoscale"))
    if run.on == "kubernetes" and run.launcher == "horovod" and "launcher" in run.model_fields_set:
        expected, help = "torchrun starts the processes in pods", "Remove launcher, or write on: hosts"
        yield Problem("got launcher: horovod with on: kubernetes", expected, help, ("launcher",))
    yield from _privacy_problems(run)
    for name in sorted(RESERVED & run.set.keys()):
        expected = "it follows from the run: its name, its hosts, its launcher, its privacy"
        yield Problem(f"got {name}", expected, "Remove it", ("set", name))


def _privacy_problems(run: Run) -> Iterator[Problem]:
    """Yield the problems of a promise that hold on all hosts."""
    if run.privacy is None:
        return
    if run.on == "kubernetes":
        expected, help = "the ledger lies on a host, and pods move between hosts", "Write on: hosts, or remove privacy"
        yield Problem("got privacy with on: kubernetes", expected, help, ("privacy",))
    ledger = run.privacy.budget.ledger
    if any(is_below(ledger, folder) for folder in VOLATILE):
        expected = f"a directory that stays, and not below {', '.join(VOLATILE)}"
        yield Problem(f"got {ledger!r}", expected, "Write a directory on a tier", LEDGER)


def is_below(path: str, folder: str) -> bool:
    """Return whether the absolute *path* is *folder* or lies below it."""
    return path == folder or path.startswith(f"{folder}/")


def _ledger_problems(run: Run, hosts: Mapping[str, Host], members: Sequence[str]) -> Iterator[Problem]:
    """Yield the problem of a ledger that lies on no tier of the first host, whose drives keep it."""
    host = hosts.get(members[0]) if members else None
    if run.privacy is None or run.on != "hosts" or host is None:
        return
    ledger, mounts = run.privacy.budget.ledger, [tier.mount for tier in host.tiers.values()]
    if mounts and not any(ledger.startswith(f"{mount}/") for mount in mounts):
        expected = f"a directory below a tier of {members[0]}: {', '.join(mounts)}"
        yield Problem(f"got {ledger!r}", expected, f"Write {mounts[0]}/privacy", LEDGER)


def _budget_problems(runs: Mapping[str, Run], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield the problem of each run whose data set has another ledger, total or unit in an earlier run.

    Each ledger would count the whole total for itself.
    """
    first: dict[str, tuple[str, str, Privacy]] = {}
    for name, run in runs.items():
        members = run.members(hosts)
        if run.privacy is None or run.on != "hosts" or not members:
            continue
        promise = run.privacy
        other, host, known = first.setdefault(promise.data, (name, members[0], promise))
        place = f"{members[0]}:{promise.budget.ledger}"
        if place != (expected := f"{host}:{known.budget.ledger}"):
            help = f"Name {host} first in hosts, and its ledger, or give other rows another name"
            expected = f"{expected}, the one ledger of data set {promise.data}, as in run {other}"
            yield Problem(f"got {place}", expected, help, (name, *LEDGER))
        elif (promise.budget, promise.unit) != (known.budget, known.unit):
            total, expected = (
                f"epsilon {each.budget.epsilon:g}, delta {each.budget.delta:g} for each {each.unit}"
                for each in (promise, known)
            )
            expected = f"{expected}: one total for data set {promise.data}, as in run {other}"
            help = "Write the same epsilon, delta and unit, or give other rows another name"
            yield Problem(f"got {total}", expected, help, (name, "privacy", "budget"))


def _gpu_problems(run: Run) -> Iterator[Problem]:
    """Yield the problems of the GPUs of *run*: of its hosts by selection, of its pods by number."""
    if run.on == "kubernetes" and run.gpus is not None:
        expected, help = "the cluster chooses the GPUs of a pod", "Write their number as gpus below pods"
        yield Problem("got gpus with on: kubernetes", expected, help, ("gpus",))
        return
    selected = run.pods.gpus if run.pods else 0 if run.gpus is None else count(run.gpus)
    if 0 < selected < run.processes:
        problem, expected = f"got {selected} GPUs for {run.processes} processes", "each process has its own GPU"
        path = ("pods", "gpus") if run.pods else ("gpus",)
        yield Problem(problem, expected, "Name more GPUs, or declare fewer processes", path)


def problems(runs: Mapping[str, Run], hosts: Mapping[str, Host], clusters: Mapping[Name, Cluster]) -> Iterator[Problem]:
    """Yield the problems of *runs* on *hosts* and their *clusters*; paths are relative to the runs."""
    for name, run in ((name, run.with_launcher(hosts)) for name, run in runs.items()):
        if len(name) > NAME_MAX:
            expected = f"the name, which is part of an account's name, has {NAME_MAX} characters at most"
            yield Problem(f"got the name {name!r}", expected, "Shorten it", (name,))
        members = run.members(hosts)
        declared = [member for member in members if member in hosts]
        wrong = [
            *placement.unknown_hosts(run, hosts),
            *_without_tier(run, hosts, declared),
            *_ledger_problems(run, hosts, members),
            *_config_problems(name, run, run.workers(hosts) if members else 0),
            *on_pods.problems(run, members, clusters),
        ]
        if not wrong and len(members) > 1 and run.on == "hosts":
            wrong = [*_network_problems(run, hosts, members)]
        for problem in wrong:
            yield problem.below(name)
    yield from _port_problems(runs, hosts)
    yield from _budget_problems(runs, hosts)


def _without_tier(run: Run, hosts: Mapping[str, Host], members: list[str]) -> Iterator[Problem]:
    tier = run.checkpoints.tier
    place: Keys = ("checkpoints", "tier")
    lacking = [member for member in members if tier not in hosts[member].tiers]
    for member in lacking:
        tiers = ", ".join(hosts[member].tiers) or "none"
        expected = f"tiers of {member}: {tiers}"
        help = f"Declare tier {tier} on {member}, or remove {member} from the run"
        yield Problem(f"got {tier!r}", expected, help, place)
    mounts = {hosts[member].tiers[tier].mount: member for member in reversed(members) if member not in lacking}
    if len(mounts) > 1:
        paths = " and ".join(f"{mount} on {member}" for mount, member in sorted(mounts.items()))
        expected = "all processes write below one path"
        yield Problem(f"got {tier!r}, which is {paths}", expected, "Mount it at the same place everywhere", place)


def _config_problems(name: str, run: Run, workers: int) -> Iterator[Problem]:
    if not workers:
        return
    promise, run = run.privacy, run.model_copy(update={"privacy": None})
    try:
        config = run.config(name, workers)
    except ValidationError as error:
        help = f"See {command('rackwright run recipes {}', run.recipe)}"
        from workloads.training.config import TrainingConfig

        for problem in setting_problems(error, TrainingConfig.model_fields, help):
            yield problem.below("set")
        return
    if promise:
        from workloads.training.privacy import refusals

        for each in refusals.of(config, promise):
            yield Problem(f"got privacy with {each.setting}", each.reason, each.help, ("privacy",))
    if run.on == "kubernetes":
        yield from _path_problems(run, config.paths)
    if run.data is not None and not hasattr(config.data, "path"):
        expected = f"recipe {run.recipe} brings its own data"
        yield Problem(f"got {run.data!r}", expected, "Remove data, or choose another recipe", ("data",))
    world = workers * run.processes
    if config.global_batch % world:
        expected = f"{world} processes share it evenly"
        near = max(world, config.global_batch - config.global_batch % world)
        help = f"Write set: {{global_batch: {near}}}, or another number of processes"
        yield Problem(f"got a global batch of {config.global_batch}", expected, help, ("set", "global_batch"))
    elif config.global_batch % (world * config.accumulate):
        largest = next(n for n in range(config.accumulate, 0, -1) if not config.global_batch % (world * n))
        got = f"got {config.accumulate} parts of each process for a global batch of {config.global_batch}"
        expected = f"{world} processes share it evenly, each in as many parts"
        yield Problem(got, expected, f"Write set: {{accumulate: {largest}}}", ("set", "accumulate"))
    if run.elastic and run.elastic.min_processes > world:
        expected, help = f"{world} processes are all there are", "Lower it"
        place = ("elastic", "min_processes")
        yield Problem(f"got {run.elastic.min_processes}", expected, help, place)


def _path_problems(run: Run, paths: Mapping[tuple[str | int, ...], str]) -> Iterator[Problem]:
    """Yield the problems of what a run in pods reads: directories of its hosts, which pods get at the same paths."""
    for keys, path in paths.items():
        place: Keys = ("data",) if keys == ("data", "path") and run.data is not None else ("set", *keys)
        help = "Name a directory with the data on each host, below a tier"
        try:
            _absolute(path)
        except Problem as problem:
            yield problem.below(*place)
            continue
        if path.split("/")[1] in SYSTEM:
            expected = f"a directory of data, and none below {', '.join(f'/{each}' for each in SYSTEM)}"
            yield Problem(f"got {path!r}", expected, help, place)
        elif path.endswith(FILES):
            yield Problem(f"got the file {path!r}", "pods get directories of their hosts", "Name its directory", place)


def address(host: Host) -> str | None:
    """Return the fabric address of *host* with its prefix length, ``192.0.2.11/24``; None without a fabric."""
    if host.fabric is None:
        return None
    return next(iter(links(host.network or Network(), host.nics)[host.fabric].addresses), None)


def _network_problems(run: Run, hosts: Mapping[str, Host], members: tuple[str, ...]) -> Iterator[Problem]:
    """Yield the reasons why processes on *members* could not connect to each other."""
    place: Keys = ("group",) if run.group is not None else ("hosts",)
    addresses = {member: address(hosts[member]) for member in members}
    for member, fabric_address in addresses.items():
        if fabric_address is None:
            help = f"Declare network: {{}} at {member} or its group, and addresses of its port"
            yield Problem(f"got {member}", "it has no fabric: no network with addresses is declared", help, place)
    if None in addresses.values():
        return
    first, *others = members
    for other in others:
        if hosts[other].fabric != hosts[first].fabric:
            problem = f"got {other}, whose fabric is {hosts[other].fabric}"
            expected = f"that of {first} is {hosts[first].fabric}, and Horovod takes one name everywhere"
            yield Problem(problem, expected, "Give both ports one name", place, "horovodrun --network-interfaces")
        networks = [parse_interface(str(addresses[member])).network for member in (first, other)]
        if networks[0] != networks[1]:
            problem = f"got {other}, whose fabric is in {networks[1]}"
            yield Problem(problem, f"that of {first} is in {networks[0]}", "Give both an address in one network", place)


def ports(run: Run, hosts: Mapping[str, Host]) -> Iterator[tuple[str, int, str]]:
    """Yield the fixed ports of *run* on hosts: the host, the port, and the key that declares it."""
    members = run.members(hosts) if run.on == "hosts" else ()
    yield from ((member, run.port, "port") for member in members[1:])
    if len(members) > 1 and run.with_launcher(hosts).launcher == "torchrun":
        yield members[0], run.rendezvous_port, "rendezvous_port"


def _port_problems(runs: Mapping[str, Run], hosts: Mapping[str, Host]) -> Iterator[Problem]:
    """Yield a problem for each port of a host that two runs would listen on."""
    first: dict[tuple[str, int], str] = {}
    for name, run in runs.items():
        for member, port, key in ports(run, hosts):
            other = first.setdefault((member, port), name)
            if other != name:
                expected, help = "each run of a host has its own port", "Choose another port"
                note = f"run {other} listens there on {member}"
                yield Problem(f"got port {port}", expected, help, (name, key), note=note, also=(other,))
                break


def _replace(recipe: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a *recipe* with *changes*; a model or data of another kind replaces that of the recipe."""
    from workloads.training.config import TrainingConfig

    fields = TrainingConfig.model_fields
    others = {
        name: value
        for name, value in changes.items()
        if name in fields and fields[name].discriminator and isinstance(value, Mapping)
        if value.get("kind", recipe[name]["kind"]) != recipe[name]["kind"]
    }
    return _merge({name: value for name, value in recipe.items() if name not in others}, changes)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        result[key] = _merge(under, value) if isinstance(value, Mapping) and isinstance(under, dict) else value
    return result


def _with_kinds(explicit: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """Return *explicit* with each ``kind`` of *full*, which selects the class that reads the other keys."""
    nested = [name for name, value in full.items() if isinstance(value, dict)]
    below = {name: _with_kinds(explicit.get(name, {}), full[name]) for name in nested}
    kind = {"kind": full["kind"]} if "kind" in full else {}
    return {**explicit, **{name: value for name, value in below.items() if value}, **kind}

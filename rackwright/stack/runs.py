"""The resources of a stack's runs: a TrainingSeat on each worker, then the TrainingRun on the launcher."""

from collections.abc import Iterable, Iterator
from hashlib import sha256

from rackwright.fleet import tracking
from rackwright.kinds.pods.spec import RunPart
from rackwright.kinds.training_run import TrainingRunKind, TrainingWorkerKind
from rackwright.kinds.training_run.spec import TrainingSpec, WorkerPart
from rackwright.schema.run import Run, address
from rackwright.schema.secret import name_of
from rackwright.stack import pods
from rackwright.stack.environment_names import suitable
from rackwright.stack.environments import environment_path
from rackwright.stack.resource import DeclaredResource
from rackwright.stack.servers import GpuAssignments
from rackwright.stack.stack import Stack

ALONE = "localhost"
"""Address of the processes of a run on a single host."""


def runs(stack: Stack, gpus: GpuAssignments, names: Iterable[str]) -> Iterator[DeclaredResource]:
    """Yield the resources of the runs *names*; the launcher's comes after those of the workers.

    Args:
        gpus: The GPUs of runs, by owner file and host.
    """
    for name in names:
        run = stack.fleet.runs[name]
        if run.pods:
            yield from _in_pods(stack, name, run.with_launcher(stack.fleet.hosts))
            continue
        launcher, *others = run.members(stack.fleet.hosts)
        workers = [DeclaredResource(TrainingWorkerKind(), _spec(stack, name, run, other, gpus)) for other in others]
        yield from workers
        after = tuple(worker.name for worker in workers)
        yield DeclaredResource(TrainingRunKind(), _spec(stack, name, run, launcher, gpus), after)


def _in_pods(stack: Stack, name: str, run: Run) -> Iterator[DeclaredResource]:
    hosts = stack.fleet.hosts
    members = run.members(hosts)
    part = RunPart(
        config=run.config_text(name, run.workers(hosts)),
        processes=run.processes,
        rendezvous_port=run.rendezvous_port,
        variables=run.variables,
        mount=hosts[members[0]].tiers[run.checkpoints.tier].mount,
        data=run.data,
        reads=tuple(sorted({*run.config(name, run.workers(hosts)).paths.values()})),
        go_on=run.go_on,
        restart=run.restart == "on-failure",
        grace_seconds=run.grace_seconds,
        provenance=_provenance(stack, run, members),
    )
    environment = environment_path(stack, run.environment, members, suitable(run), "/opt/workloads")
    assert run.pods is not None
    yield from pods.resources(stack, members, run.pods, name, environment, part)


def _spec(stack: Stack, name: str, run: Run, host: str, gpus: GpuAssignments) -> TrainingSpec:
    hosts = stack.fleet.hosts
    members = run.members(hosts)
    several = len(members) > 1
    return TrainingSpec(
        host=host,
        not_rehearsable=stack.not_rehearsable(host),
        identity=dict([hosts[host].identity.strongest]),
        fleet=stack.fleet.fleet,
        name=name,
        declared=run.with_launcher(hosts),
        hosts=tuple(
            WorkerPart(name=member, address=(address(hosts[member]) or "").split("/")[0] if several else ALONE)
            for member in members
        ),
        interface=hosts[host].fabric if several else None,
        gpus=gpus.get((f"run-{name}", host)),
        environment=environment_path(stack, run.environment, members, suitable(run), "/opt/workloads"),
        mount=hosts[host].tiers[run.checkpoints.tier].mount,
        key=name_of(stack.fleet.key),
        tracking_server=tracking.server(run, hosts, stack.repository.roles) if host == members[0] else None,
        provenance=_provenance(stack, run, members),
    )


def _provenance(stack: Stack, run: Run, members: tuple[str, ...]) -> dict[str, str]:
    """Return digests of the inputs of the run: its hosts, its declaration, and the lock of their fleet."""
    exclude = {"ssh", "address", "alerts", "health", "maintenance"}
    hosts = (stack.fleet.hosts[member].model_dump_json(exclude=exclude, exclude_defaults=True) for member in members)
    lock = stack.lock_file.read_bytes() if stack.lock is not None else None
    return {
        "fleet": _digest("\n".join(hosts).encode()),
        "declaration": _digest(run.model_dump_json(exclude={"go_on"}, exclude_defaults=True).encode()),
        "lock": "none" if lock is None else _digest(lock),
    }


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()

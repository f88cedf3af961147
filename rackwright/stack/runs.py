"""The runs of a stack as resources: a seat on each host but the chief, then what starts it there."""

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from rackwright.fleet import tracking
from rackwright.kinds.training_run import TrainingRunKind, TrainingSeatKind
from rackwright.kinds.training_run.spec import SeatPart, TrainingSpec
from rackwright.schema.run import Run, address
from rackwright.schema.secret import name_of
from rackwright.stack.environments import place
from rackwright.stack.resource import Declared
from rackwright.stack.stack import Stack
from workloads.training.config import TrainingConfig

ALONE = "localhost"
"""How processes of a run on one host reach each other."""


def runs(stack: Stack) -> Iterator[Declared]:
    """Yield the resources of every run, the chief's after all others of the run."""
    for name, run in stack.fleet.runs.items():
        chief, *others = run.members(stack.fleet.hosts)
        seats = [Declared(TrainingSeatKind.token, _spec(stack, name, run, other)) for other in others]
        yield from seats
        after = tuple(seat.name for seat in seats)
        yield Declared(TrainingRunKind.token, _spec(stack, name, run, chief), after)


def _spec(stack: Stack, name: str, run: Run, host: str) -> TrainingSpec:
    hosts = stack.fleet.hosts
    members = run.members(hosts)
    several = len(members) > 1
    config = run.config(name, len(members))
    return TrainingSpec(
        host=host,
        not_rehearsable=stack.not_rehearsable(host),
        identity=dict([hosts[host].identity.strongest]),
        fleet=stack.fleet.fleet,
        name=name,
        hosts=tuple(
            SeatPart(name=member, address=(address(hosts[member]) or "").split("/")[0] if several else ALONE)
            for member in members
        ),
        interface=hosts[host].fabric if several else None,
        processes=run.processes,
        launcher=run.launcher,
        min_processes=run.elastic.min_processes if run.elastic else None,
        restart=run.restart,
        grace_seconds=run.grace_seconds,
        environment=place(stack, run.environment, members, ["training"], "/opt/workloads"),
        data=run.data,
        port=run.port,
        mount=hosts[host].tiers[run.checkpoints.tier].mount,
        config=_told(config),
        key=name_of(stack.fleet.key),
        tracking=tracking.part(run, hosts, stack.repository.roles) if host == members[0] else None,
        go_on=run.go_on,
        provenance=_provenance(stack, run, members),
    )


def _told(config: TrainingConfig) -> str:
    """Return *config* as JSON, without what is not said of it: a default that is new is no change of a run."""
    told = _with_kinds(config.model_dump(mode="json", exclude_defaults=True), config.model_dump(mode="json"))
    return json.dumps(told, indent=2) + "\n"


def _with_kinds(told: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Return *told* with each ``kind`` of *whole*, by which the rest is read."""
    below = {name: _with_kinds(told.get(name, {}), value) for name, value in whole.items() if isinstance(value, dict)}
    kind = {"kind": whole["kind"]} if "kind" in whole else {}
    return {**told, **{name: value for name, value in below.items() if value}, **kind}


def _provenance(stack: Stack, run: Run, members: tuple[str, ...]) -> dict[str, str]:
    """Return digests of what decides the run: its hosts, itself, the lock beside their fleet."""
    exclude = {"ssh", "address", "alerts", "health", "maintenance"}
    told = (stack.fleet.hosts[member].model_dump_json(exclude=exclude, exclude_defaults=True) for member in members)
    lock = stack.lock_file.read_bytes() if stack.lock is not None else None
    return {
        "fleet": _digest("\n".join(told).encode()),
        "declaration": _digest(run.model_dump_json(exclude={"go_on"}, exclude_defaults=True).encode()),
        "lock": "none" if lock is None else _digest(lock),
    }


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()

"""The check that hosts have the Python environments that runs and servers need."""

from collections.abc import Iterator, Sequence

from rackwright.errors import Diagnostic
from rackwright.schema.run import Run
from rackwright.schema.server import Server
from rackwright.stack.environment_names import suitable
from rackwright.stack.environments import made_environments, role_variables
from rackwright.stack.settings import WORKLOADS_ROLE as ROLE
from rackwright.stack.stack import Stack

DECLARED = "`environment: {path: …}`, one that is on the hosts already"
LENT = "`environment: {path: /opt/workloads}`, which this twin lends its containers"


def missing_environments(stack: Stack) -> Iterator[Diagnostic]:
    """Yield an error for each run and server that declares no environment, and for whose hosts the role makes none."""
    workloads: dict[str, Run | Server] = {f"runs.{name}": run for name, run in stack.fleet.runs.items()}
    workloads |= {f"servers.{name}": server for name, server in stack.fleet.servers.items()}
    for place, workload in workloads.items():
        names = suitable(workload)
        members = workload.members(stack.fleet.hosts)
        made = {member: made_environments(stack, member) for member in members}
        if workload.environment:
            continue
        if not set(names).intersection(*made.values()):
            lacking = next(member for member in members if names[0] not in made[member])
            beside = f"role {ROLE} makes {', '.join(made[lacking])}" if made[lacking] else f"role {ROLE} makes none"
            expected = f"the environment {' or '.join(names)} on all of its hosts"
            declare = LENT if stack.lends_workloads and isinstance(workload, Run) else DECLARED
            systems = stack.repository.roles[ROLE].by_os
            without_role = [member for member in members if stack.fleet.hosts[member].os not in systems]
            help = f"Add {names[0]} to `environments` of role {ROLE} of {', '.join(members)}, or declare {declare}"
            if without_role:  # to add the role there is refused
                help = (
                    f"Make an environment on {', '.join(without_role)} by hand: role {ROLE} is for {', '.join(systems)}"
                )
                help += f". Then declare {declare}"
            yield Diagnostic(place, f"got {lacking}, where {beside}", expected, help)
        elif isinstance(workload, Run) and workload.with_launcher(stack.fleet.hosts).launcher == "horovod":
            yield from _without_horovod(stack, place, members)


def _without_horovod(stack: Stack, place: str, members: Sequence[str]) -> Iterator[Diagnostic]:
    """Yield an error if the environment of a run on *members*, which Horovod launches, lacks Horovod."""
    lacking = [member for member in members if not role_variables(stack, member)["workloads_horovod"]]
    if lacking:
        problem = f"got {lacking[0]}, where role {ROLE} makes the environment without Horovod"
        expected = "Horovod launches the run on all of its hosts"
        help = f"Write launcher: torchrun, or remove `horovod: false` from role {ROLE}"
        yield Diagnostic(place, problem, expected, help)

"""The check that hosts have the Python environments that runs and servers need."""

from collections.abc import Iterator, Sequence

from rackwright.errors import Diagnostic
from rackwright.schema.run import Run
from rackwright.schema.server import Server
from rackwright.stack import vllm
from rackwright.stack.environments import ROLE, made_environments
from rackwright.stack.servers import ENVIRONMENTS
from rackwright.stack.stack import Stack


def missing_environments(stack: Stack) -> Iterator[Diagnostic]:
    """Yield an error for each run and server whose hosts have role workloads, and not the environment that it needs.

    Without the role on all of its hosts, the environment is that of others, at its default path.
    """
    needs: dict[str, tuple[Run | Server, Sequence[str]]] = {}
    for name, run in stack.fleet.runs.items():
        needs[f"runs.{name}"] = run, ("training",)
    for name, server in stack.fleet.servers.items():
        of_vllm = ("vllm-cpu",) if vllm.computes_on_processors(server) else ("vllm",)
        needs[f"servers.{name}"] = server, of_vllm if server.vllm else ENVIRONMENTS
    for place, (workload, names) in needs.items():
        members = workload.members(stack.fleet.hosts)
        made = {member: made_environments(stack, member) for member in members}
        if workload.environment or not all(made.values()):
            continue
        if not set(names).intersection(*made.values()):
            lacking = next(member for member in members if names[0] not in made[member])
            problem = f"got {lacking}, where role {ROLE} makes {', '.join(made[lacking])}"
            expected = f"the environment {' or '.join(names)} on all of its hosts"
            help = f"Add {names[0]} to `environments` of role {ROLE}, or declare `environment: {{path: …}}`"
            yield Diagnostic(place, problem, expected, help)

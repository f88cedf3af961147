"""The command for the clusters of a stack."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright.cli import project
from rackwright.cli.arguments import StackName
from rackwright.errors import ChangeRefused, Diagnostic

if TYPE_CHECKING:
    from rackwright.schema.fleet import Fleet
    from rackwright.stack import Stack

app = typer.Typer(no_args_is_help=True, help="The clusters of Kubernetes of a stack.")


@app.command("exec")
def execute(
    stack: StackName,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="The command, after `--`.")],
    cluster: Annotated[
        str | None, typer.Option(metavar="NAME", help="The cluster; not needed if the fleet has only one.")
    ] = None,
) -> None:
    """Run a command that reaches the API of a cluster: kubectl, helm, or pulumi for a program with pulumi-kubernetes.

    The command gets a certificate of an administrator for an hour in KUBECONFIG. The API is reached through SSH to the
    first control plane that answers. Both end with the command. For a cluster with `api`, KUBECONFIG has its URL and
    token instead, in a file that only this user can read, until the command ends.

    Exit status: that of the command.
    """
    from rackwright.cli import recording
    from rackwright.toolchain import pulumi_kubernetes
    from rackwright.toolchain.kubernetes import programs

    loaded = project.stack(stack)
    name = _name(loaded.fleet, cluster, str(loaded.fleet_file))
    built = filter(None, (programs.found_programs(), pulumi_kubernetes.built_directory()))
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), *map(str, built))))
    with _api_access(loaded, name) as (source, access):
        # the program alone: what follows it may have a secret
        planned = [recording.change(command[0], "run with access to the API", source)]
        entry = recording.record("cluster exec", loaded, [source], {"program": command[0]}, planned)
        with entry as operation, access as kubeconfig:
            environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path}
            signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command, in which a handler does not stay
            try:
                status = subprocess.run(command, env=environment, check=False).returncode
            except FileNotFoundError:
                problem, help = f"there is no program {command[0]} on this computer", "Install it, or correct the name"
                raise ChangeRefused(Diagnostic("COMMAND", problem, help=help)) from None
            operation.exit_status, operation.outcome = status, "failed" if status else "done"
    raise typer.Exit(status if status >= 0 else 128 - status)


@contextlib.contextmanager
def _api_access(stack: "Stack", name: str) -> Iterator[tuple[str, contextlib.AbstractContextManager[Path]]]:
    """Yield the host or endpoint through which a command reaches the cluster *name*, and the access to it.

    Raises:
        ChangeRefused: A virtual rack has no part in the cluster.
        EndpointUnreachable: The token of the cluster is unknown.
        HostUnreachable: No control plane answers.
    """
    from rackwright.access.cluster import access, access_by_token, first_reachable
    from rackwright.endpoints.kubernetes import token_of

    cluster = stack.fleet.clusters[name]
    if cluster.api is None:
        with project.connect_hosts(stack) as hosts:
            plane = first_reachable(hosts, cluster.control_planes)
            yield plane, access(hosts, plane)
        return
    if name not in stack.cluster_apis:
        help = "Run the command with the stack of the rack"
        raise ChangeRefused(
            Diagnostic(f"clusters.{name}", f"the twin {stack.twin} has no part in this cluster of others", help=help)
        )
    yield f"kubernetes:{name}", access_by_token(name, cluster.api, token_of(project.secrets(stack), name))


def _name(fleet: "Fleet", name: str | None, where: str) -> str:
    """Return *name* of a cluster, or that of the only one.

    Raises:
        ChangeRefused: the fleet has no such cluster, or several of them and *name* is None.
    """
    from rackwright.schema.problem import hint

    names = ", ".join(fleet.clusters) or "none"
    if name is None and len(fleet.clusters) == 1:
        [only] = fleet.clusters
        return only
    if name is None:
        help = "Write --cluster NAME" if fleet.clusters else "Declare one under clusters"
        raise ChangeRefused(
            Diagnostic(where, f"the fleet has {len(fleet.clusters)} clusters", f"clusters: {names}", help)
        )
    if name not in fleet.clusters:
        raise ChangeRefused(
            Diagnostic("--cluster", f"got {name!r}", f"clusters: {names}", hint(name, fleet.clusters, "Declare it"))
        )
    return name

"""The command for the clusters of a stack."""

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright.cli import project
from rackwright.cli.arguments import StackName
from rackwright.errors import ChangeRefused, Diagnostic

if TYPE_CHECKING:
    from rackwright.schema.fleet import Fleet

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
    first control plane that answers. Both end with the command.

    Exit status: that of the command.
    """
    from rackwright.access.cluster import access, first_reachable
    from rackwright.cli import recording
    from rackwright.hosts.pool import Hosts
    from rackwright.toolchain import pulumi_kubernetes
    from rackwright.toolchain.kubernetes import programs

    loaded = project.stack(stack)
    planes = _control_planes(loaded.fleet, cluster, str(loaded.fleet_file))
    hosts = Hosts(loaded.endpoints, loaded.salt)
    try:
        plane = first_reachable(hosts, planes)
    except BaseException:
        hosts.close()
        raise
    built = filter(None, (programs.found_programs(), pulumi_kubernetes.built_directory()))
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), *map(str, built))))
    # the program alone: what follows it may have a secret
    planned = [recording.change(command[0], "run with access to the API", plane)]
    entry = recording.record("cluster exec", loaded, [plane], {"program": command[0]}, planned)
    try:
        with entry as operation, access(hosts, plane) as kubeconfig:
            environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path}
            signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the command, in which a handler does not stay
            try:
                status = subprocess.run(command, env=environment, check=False).returncode
            except FileNotFoundError:
                problem, help = f"there is no program {command[0]} on this computer", "Install it, or correct the name"
                raise ChangeRefused(Diagnostic("COMMAND", problem, help=help)) from None
            operation.exit_status, operation.outcome = status, "failed" if status else "done"
    finally:
        hosts.close()
    raise typer.Exit(status if status >= 0 else 128 - status)


def _control_planes(fleet: "Fleet", name: str | None, where: str) -> tuple[str, ...]:
    """Return the hosts with the control plane of the cluster *name*, or of the only one.

    Raises:
        ChangeRefused: the fleet has no such cluster, or several of them and *name* is None.
    """
    from rackwright.schema.problem import hint

    names = ", ".join(fleet.clusters) or "none"
    if name is None and len(fleet.clusters) == 1:
        [cluster] = fleet.clusters.values()
        return cluster.control_planes
    if name is None:
        help = "Write --cluster NAME" if fleet.clusters else "Declare one under clusters"
        raise ChangeRefused(
            Diagnostic(where, f"the fleet has {len(fleet.clusters)} clusters", f"clusters: {names}", help)
        )
    if name not in fleet.clusters:
        raise ChangeRefused(
            Diagnostic("--cluster", f"got {name!r}", f"clusters: {names}", hint(name, fleet.clusters, "Declare it"))
        )
    return fleet.clusters[name].control_planes

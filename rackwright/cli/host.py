"""Commands about one host."""

import json
from typing import Annotated

import typer

from rackwright.cli import project, state

app = typer.Typer(no_args_is_help=True, help="One host of a stack.")
StackName = Annotated[str, typer.Argument(metavar="STACK")]
HostName = Annotated[str, typer.Argument(metavar="HOST")]


@app.command()
def forget(stack: StackName, host: HostName) -> None:
    """Take a host out of a stack's state, touching nothing on it: for a machine that is gone for good."""
    names = [(urn, urn.rpartition("::")[2]) for urn in state.urns(stack)]
    for urn, name in reversed(names):
        if name.split("/")[0] == host and not urn.endswith(f"$pulumi:providers:rackwright::{host}"):
            # what stands on it elsewhere, as the ways to it do, is taken over again by the next run
            state.pulumi(stack, "state", "delete", "--yes", "--force", "--target-dependents", urn)
            project.say(f"forgotten: {name}")


@app.command()
def qualify(
    stack: StackName,
    host: HostName,
    peer: Annotated[
        str | None, typer.Option(metavar="HOST", help="Measure the network to this host, too: it is locked as well.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="For how long memory and network are measured.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
) -> None:
    """Measure whether a host is fit for its work: memory, network, GPUs and the ways between them, and a burn-in.

    Nobody may compute on its GPUs. It changes nothing, and takes some minutes where there are GPUs.

    Exit status: 1 something is short, 4 a program failed, 3 something could not be measured, 2 GPUs are in use.
    """
    from rich.console import Console

    from rackwright.apply.pool import Hosts
    from rackwright.qualify.run import qualify
    from rackwright.qualify.table import sources, sums, table

    loaded = project.stack(stack)
    hosts, console = Hosts(loaded.endpoints, loaded.salt), Console(highlight=False)
    try:
        report = qualify(hosts, loaded, host, peer, project.say, seconds)
    finally:
        hosts.close()
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        console.print(table(report))
        console.print(*sources(report), sums(report), sep="\n", markup=False, soft_wrap=True)
    raise typer.Exit(report.exit_status)

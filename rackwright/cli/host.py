"""Commands about one host."""

import json
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project, state
from rackwright.errors import command

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
def reidentify(
    stack: StackName,
    host: HostName,
    yes: Annotated[bool, typer.Option("--yes", help="It is the same host: ask nobody.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print both identities for machines.")] = False,
) -> None:
    """Write down which machine a host is, once its mainboard was replaced: both identities are shown before.

    Nothing is written to the host. A machine without any of the host's drives is refused, and so is another host key.

    Exit status: 0 it is written, or was right, 2 refused, or nobody said yes, 3 not reached.
    """
    from rackwright.errors import DeclarationErrors
    from rackwright.fleet import edit_hosts
    from rackwright.fleet.reidentify import compare_identity

    loaded = project.stack(stack)
    if wrong := list(loaded.unknown_host_errors(host)):
        raise DeclarationErrors(wrong)
    with project.connected(loaded) as hosts:
        both = compare_identity(host, loaded.fleet.hosts[host], hosts.facts(host))
    if as_json:
        terminal.show(json.dumps(both.as_json(), indent=2))
    else:
        terminal.show(f"{host} at {loaded.fleet.hosts[host].address}, whose host key is the pinned one\n{both}")
    if not both.changes:
        project.say(f"{host} is what is declared")
        return
    question = f"Is it {host}, with another mainboard?"
    if not yes and not terminal.confirm(question):
        project.say("nothing was written: --yes says that it is the same host")
        raise typer.Exit(2)
    path = project.rewrite(stack, lambda path: edit_hosts.replace_identity(path, host, both.changes))
    project.say(
        f"{path.name}: {host} has another identity;"
        f" see what else differs with {command('rackwright preview {}', stack)}"
    )


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
    from rackwright.hosts.pool import Hosts
    from rackwright.qualify.run import qualify
    from rackwright.qualify.table import sources, summary, table

    loaded = project.stack(stack)
    hosts, console = Hosts(loaded.endpoints, loaded.salt), terminal.console()
    try:
        report = qualify(hosts, loaded, host, peer, project.say, seconds)
    finally:
        hosts.close()
    if as_json:
        terminal.show(json.dumps(report.as_json(), indent=2))
    else:
        console.print(table(report))
        console.print(*sources(report), summary(report), sep="\n", markup=False, soft_wrap=True)
    raise typer.Exit(report.exit_status)

"""The commands for one host."""

from collections.abc import Iterable
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project, state
from rackwright.cli.arguments import AsJson, HostName, StackName
from rackwright.errors import command

app = typer.Typer(no_args_is_help=True, help="One host of a stack.")


@app.command()
def forget(
    stack: StackName,
    host: HostName,
    yes: Annotated[bool, typer.Option("--yes", help="Forget the host without a question.")] = False,
) -> None:
    """Remove a host from a stack's state, for a machine that is gone for good. Touches no host.

    Exit status: 0 the state has no resource of the host any more, 2 unknown host or not confirmed.
    """
    from rackwright.cli import recording
    from rackwright.errors import DeclarationError, Diagnostic

    urns = _urns_by_host(state.urns(stack))
    if host not in urns:
        expected = f"a host with resources in the state: {', '.join(urns) or 'none'}"
        raise DeclarationError(
            Diagnostic(f"stack {stack}", f"the state has no host {host}", expected, "Name one of these")
        )
    names = ", ".join(dict.fromkeys(_name(urn) for urn in urns[host]))
    if not yes and not terminal.confirm(f"Remove {names} from the state of stack {stack}?"):
        project.notify("nothing was changed: confirm with --yes that the machine is gone for good")
        raise typer.Exit(2)
    planned = [recording.change(_name(urn), "remove from the state", host) for urn in reversed(urns[host])]
    with recording.record("host forget", stack, [host], planned=planned):
        for urn in reversed(urns[host]):
            # the next run adopts dependent resources of other hosts again, such as paths to this one
            state.pulumi(stack, "state", "delete", "--yes", "--force", "--target-dependents", urn)
    project.notify(f"forgotten: {names}")


def _urns_by_host(urns: Iterable[str]) -> dict[str, list[str]]:
    """Return the URNs of resources by host, without those of the stack, the rack and the providers.

    The component of the rack may have the name of a host, and all hosts depend on it.
    """
    from rackwright.provider.state_format import RACK

    hosts: dict[str, list[str]] = {}
    for urn in urns:
        if not any(part in urn for part in ("::pulumi:", f"::{RACK}::", "$pulumi:providers:")):
            hosts.setdefault(_name(urn).split("/")[0], []).append(urn)
    return hosts


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


@app.command()
def reidentify(
    stack: StackName,
    host: HostName,
    yes: Annotated[bool, typer.Option("--yes", help="Confirm that it is the same host, without a question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the new identity of a host into the fleet's file after its mainboard was replaced.

    Shows both identities first. Writes nothing to the host. Refuses a machine with none of the host's drives, and
    another host key.

    Exit status: 0 the identity is written or was right, 2 refused or not confirmed, 3 not reached.
    """
    from rackwright.cli import recording
    from rackwright.errors import DeclarationError
    from rackwright.fleet import edit_hosts
    from rackwright.fleet.reidentify import compare_identity

    loaded = project.stack(stack)
    if wrong := list(loaded.unknown_host_errors(host)):
        raise DeclarationError(*wrong)
    with project.connect_hosts(loaded) as hosts:
        both = compare_identity(host, loaded.fleet.hosts[host], hosts.facts(host))
    if as_json:
        terminal.show_json(both.as_json())
    else:
        terminal.show(f"{host} at {loaded.fleet.hosts[host].address}, whose host key is the pinned one\n{both}")
    if not both.changes:
        project.notify(f"{host} has the declared identity")
        return
    question = f"Is it {host}, with another mainboard?"
    if not yes and not terminal.confirm(question):
        project.notify("nothing was written: confirm with --yes that it is the same host")
        raise typer.Exit(2)
    planned = [recording.change(host, "write another identity into the fleet's file", host)]
    with recording.record("host reidentify", loaded, [host], planned=planned):
        path = project.rewrite(stack, lambda path: edit_hosts.replace_identity(path, host, both.changes))
    project.notify(
        f"{path.name}: {host} has another identity;"
        f" to see other differences, run {command('rackwright preview {}', stack)}"
    )


@app.command()
def qualify(
    stack: StackName,
    host: HostName,
    peer: Annotated[
        str | None, typer.Option(metavar="HOST", help="Also measure the network to this host; it is locked as well.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=60, help="Duration of each measurement of memory and network.")
    ] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure whether a host is fit for work: memory, network, GPUs and the paths between them, and a burn-in.

    No other process may use its GPUs. The command changes nothing, and takes some minutes on a host with GPUs.

    Exit status: 1 a figure is too low, 4 a program failed, 3 a figure could not be measured, 2 GPUs are in use.
    """
    from rackwright.hosts.pool import Hosts
    from rackwright.qualify.run import qualify
    from rackwright.qualify.table import sources, summary, table

    loaded = project.stack(stack)
    project.require_twin(loaded)
    hosts, console = Hosts(loaded.endpoints, loaded.salt), terminal.console()
    try:
        report = qualify(hosts, loaded, host, peer, project.notify, seconds)
    finally:
        hosts.close()
    if as_json:
        terminal.show_json(report.as_json())
    else:
        console.print(terminal.FittingTable(table(report)))
        console.print(*sources(report), summary(report), sep="\n", markup=False, soft_wrap=True)
    raise typer.Exit(report.exit_status)

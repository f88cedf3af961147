"""The commands for the quarantine of failing hosts."""

from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName

if TYPE_CHECKING:
    from rackwright.cli.json_types import EndedQuarantine
    from rackwright.hosts.verdicts import Receiver
    from rackwright.stack import Stack

app = typer.Typer(no_args_is_help=True, help="The hosts in quarantine by verdicts of a stack's monitoring.")
DIFFERS = 1
REASON_MAX = 500
"""Characters of a reason."""


@app.command("list")
def list_hosts(stack: StackName, as_json: AsJson = False) -> None:
    """Show the hosts in quarantine, and those with a verdict for which the share is used up.

    Exit status: 0 no host has a verdict, 1 a host has one, 3 the monitoring host was not reached, 4 its verdicts are
    not whole.
    """
    from rackwright.hosts import verdicts
    from rackwright.quarantine.hosts import as_json as data

    loaded, receiver = _open(stack)
    with project.connect_hosts(loaded) as hosts:
        found = verdicts.read(hosts, loaded, receiver)
    if as_json:
        terminal.show_json(data(found))
    else:
        for host, each in found.hosts.items():
            terminal.show(f"{host}: {each.text}")
        for host, each in found.beyond.items():
            limit = f"the share of {receiver.share_percent} % of {len(receiver.hosts)} hosts is used up"
            terminal.show(f"{host}: not in quarantine, as {limit}: {each.words}")
        if not found.hosts and not found.beyond:
            terminal.show("no host is in quarantine")
    raise typer.Exit(DIFFERS if found.hosts or found.beyond else 0)


@app.command()
def end(
    stack: StackName,
    host: Annotated[str, typer.Argument(metavar="HOST", help="Host whose quarantine ends.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, for others who look.")],
    as_json: AsJson = False,
) -> None:
    """End the quarantine of a host that is whole again, for all causes of its verdicts.

    An alert that fires again after the end begins a new quarantine. Exit status: 0 it has ended, 2 the host is in no
    quarantine, 3 the monitoring host was not reached, 4 its verdicts are not whole.
    """
    from rackwright.cli import recording
    from rackwright.errors import DeclarationError, Diagnostic, command
    from rackwright.hosts import verdicts
    from rackwright.quarantine.hosts import as_json as data

    loaded, receiver = _open(stack)
    if wrong := [*loaded.unknown_host_errors(host)]:
        raise DeclarationError(*wrong)
    if not reason.strip() or len(reason) > REASON_MAX or not reason.isprintable():
        problem = f"got {len(reason)} characters" if reason.strip() else "got no reason"
        expected = f"a reason is one line of 1 to {REASON_MAX} characters"
        raise DeclarationError(Diagnostic("--reason", problem, expected, "Write why the host is whole again"))
    planned = [recording.change(host, f"end its quarantine: {reason}", receiver.host)]
    with project.connect_hosts(loaded) as hosts:
        before = verdicts.read(hosts, loaded, receiver)
        if host not in {**before.hosts, **before.beyond}:
            help = f"Look at the hosts that {command('rackwright quarantine list {}', stack)} shows"
            raise DeclarationError(Diagnostic("HOST", f"{host} is in no quarantine", help=help))
        with recording.record("quarantine end", loaded, [receiver.host], {"host": host, "reason": reason}, planned):
            after = verdicts.end(hosts, loaded, receiver, host, reason)
    if as_json:
        document: EndedQuarantine = {"host": host, "reason": reason, "quarantine": data(after)}
        terminal.show_json(document)
    else:
        terminal.show(f"the quarantine of {host} has ended")


def _open(name: str) -> "tuple[Stack, Receiver]":
    """Return the stack with its secrets, by which signatures are checked, and the receiver of its verdicts.

    Raises:
        DeclarationError: the fleet declares no quarantine.
    """
    from rackwright.errors import DeclarationError, Diagnostic
    from rackwright.hosts import verdicts

    stack = project.stack(name)
    receiver = verdicts.receiver_of(stack.fleet)
    if receiver is None:
        expected = "monitoring declares a share of hosts that may be in quarantine"
        help = "Declare `quarantine` of `monitoring`, see docs/guides/monitor.md"
        raise DeclarationError(Diagnostic(stack.name, "the fleet has no quarantine", expected, help))
    return project.secrets(stack), receiver

"""Arguments and headings that several commands share."""

from typing import Annotated

import typer

SET_UP, DECLARE, REHEARSE, CHANGE, CHECK, OPERATE, MODELS = (
    "Set up",
    "Declare",
    "Rehearse",
    "Change",
    "Check",
    "Operate",
    "Models",
)
"""Headings of the list of commands, by task."""


def _complete_stack(incomplete: str) -> list[str]:
    from rackwright.cli import stacks

    return stacks.complete(incomplete)


def complete_host(context: typer.Context, incomplete: str) -> list[str]:
    """Return the hosts of the stack on the command line that begin with *incomplete*."""
    from rackwright.cli import stacks

    return stacks.complete_host(context.params.get("stack", ""), incomplete)


def _complete_run(context: typer.Context, incomplete: str) -> list[str]:
    from rackwright.cli import stacks

    return stacks.complete_use(context.params.get("stack", ""), "runs", incomplete)


def _complete_server(context: typer.Context, incomplete: str) -> list[str]:
    from rackwright.cli import stacks

    return stacks.complete_use(context.params.get("stack", ""), "servers", incomplete)


RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="Name of a run of the stack.", autocompletion=_complete_run)
]
ServerName = Annotated[
    str, typer.Argument(metavar="SERVER", help="Name of a server of the stack.", autocompletion=_complete_server)
]
OptionalServerName = Annotated[
    str | None,
    typer.Argument(metavar="SERVER", help="Without it, all servers of the stack.", autocompletion=_complete_server),
]
StackName = Annotated[
    str,
    typer.Argument(metavar="STACK", help="Name of a stack: stacks/Pulumi.STACK.yaml.", autocompletion=_complete_stack),
]
HostName = Annotated[str, typer.Argument(metavar="HOST", help="Name of a host.", autocompletion=complete_host)]
HostNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[HOST]...", help="Names of hosts; all by default.", autocompletion=complete_host),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; `rackwright schema --output` prints its schema.")]

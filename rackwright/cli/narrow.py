"""The part of the application that a command line needs. Typer inspects all parameters of all commands otherwise."""

from collections.abc import Sequence
from copy import copy

import typer
from typer.main import get_command_name
from typer.models import CommandInfo


def narrow(app: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """Return *app* with only the command or group that *arguments* begin with; all of *app* if they name none."""
    return (_only(app, arguments[0]) if arguments else None) or app


def _only(app: typer.Typer, name: str) -> typer.Typer | None:
    commands = [command for command in app.registered_commands if _name(command) == name]
    groups = [group for group in app.registered_groups if group.name == name]
    for group in app.registered_groups:
        if not group.name and group.typer_instance and (below := _only(group.typer_instance, name)):
            groups.append(copied := copy(group))
            copied.typer_instance = below
    if not commands and not groups:
        return None
    narrowed = copy(app)
    narrowed.registered_commands, narrowed.registered_groups = commands, groups
    return narrowed


def _name(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")

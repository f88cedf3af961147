"""The page of the commands, from typer's tree."""

from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer.main

from rackwright.cli.app import app
from tests.reference.markdown import code, page, table

Command = Any
"""A command or parameter of typer, whose classes are private."""
KINDS = {str: "text", int: "integer", float: "number", Path: "path", datetime: "date and time"}


def commands() -> Iterator[tuple[str, Command]]:
    """Yield each command that does something by itself, by its words after ``rackwright``."""
    yield from _below(typer.main.get_command(app), ())


def _below(command: Command, words: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        yield " ".join(words), command
    else:
        for name, child in sorted(subcommands.items()):
            if not child.hidden:
                yield from _below(child, (*words, name))


def render() -> str:
    """Return docs/reference/cli.md."""
    all_commands = dict(commands())
    index = table(
        ("command", "effect"),
        ((f"[`rackwright {name}`](#{_anchor(name)})", _paragraphs(each)[0]) for name, each in all_commands.items()),
    )
    statuses = "Exit statuses that a command does not list are those of [exit statuses](exit-statuses.md)."
    sections = [_section(name, each) for name, each in all_commands.items()]
    return page("Commands", "the commands of rackwright/cli", statuses, index, *sections)


def _section(name: str, command: Command) -> str:
    parameters = [each for each in command.params if not each.hidden and each.name != "help"]
    usage = " ".join(["rackwright", name, *(_usage(each) for each in parameters)])
    rows = [(code(_names(each)), _help(each), _values(each)) for each in parameters]
    parts = [f"## rackwright {name}", *_paragraphs(command), f"```text\n{usage}\n```"]
    return "\n\n".join([*parts, *filter(None, [table(("argument or option", "meaning", "value"), rows)])])


def shortest_usage(name: str, command: Command) -> str:
    """Return a command with the arguments and options that it requires."""
    return " ".join(["rackwright", name, *(_usage(each) for each in command.params if each.required)])


def _anchor(name: str) -> str:
    return "-".join(["rackwright", *name.split()])


def _paragraphs(command: Command) -> list[str]:
    return [" ".join(part.split()) for part in (command.help or "").replace("\b", "").split("\n\n") if part.strip()]


def _usage(parameter: Command) -> str:
    if parameter.param_type_name == "argument":
        name = _metavar(parameter) + ("…" if parameter.nargs == -1 and not str(parameter.metavar).endswith("…") else "")
        return name if parameter.required else f"[{name}]"
    text = parameter.opts[0] if _is_flag(parameter) else f"{parameter.opts[0]} {_metavar(parameter)}"
    return text if parameter.required else f"[{text}]"


def _names(parameter: Command) -> str:
    if parameter.param_type_name == "argument":
        return _metavar(parameter)
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def _metavar(parameter: Command) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _is_flag(parameter: Command) -> bool:
    return bool(getattr(parameter, "is_flag", False))


def _values(parameter: Command) -> str:
    """Return the choices or the type of the value, and its default."""
    if _is_flag(parameter):
        return "switch"
    text = _kind(parameter) + (", required" if parameter.required else "")
    if parameter.default not in (None, "", (), []):
        text += f", default {code(getattr(parameter.default, 'value', parameter.default))}"
    return text + (f", or from {code(parameter.envvar)}" if parameter.envvar else "")


def _kind(parameter: Command) -> str:
    annotation = parameter.type_descriptor.annotation
    several = get_origin(annotation) is list
    if several:
        [annotation] = get_args(annotation)
    if choices := _choices(annotation):
        return " ".join(map(code, choices))
    words = [KINDS[annotation]]
    words += [f"at least {parameter.min:g}"] if parameter.min is not None else []
    words += [f"at most {parameter.max:g}"] if parameter.max is not None else []
    return " ".join(words) + (", repeatable" if several else "")


def _choices(annotation: Any) -> list[object]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [each.value for each in annotation]
    return [] if annotation in KINDS else list(get_args(annotation))


def _help(parameter: Command) -> str:
    return str(parameter.help or "")

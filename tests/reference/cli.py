"""The page of the commands, from typer's tree."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer.main

from rackwright.cli.app import app
from tests.reference import examples
from tests.reference.command_tree import Command, commands
from tests.reference.markdown import code, page, table

KINDS = {str: "text", int: "integer", float: "number", Path: "path", datetime: "date and time"}

INTRODUCTION = """\
The groups are those of `rackwright --help`: {links}.

Each example is a command of the page that is named below it. Exit statuses that a command does not list are those of
[exit statuses](exit-statuses.md)."""


def render() -> str:
    """Return docs/reference/cli.md."""
    all_commands = dict(commands())
    shown = examples.of_commands()
    top: Command = typer.main.get_command(app)
    group_of = {name: str(each.rich_help_panel) for name, each in top.commands.items()}
    groups: dict[str, dict[str, Command]] = {group: {} for group in group_of.values()}
    for name, each in all_commands.items():
        groups[group_of[name.partition(" ")[0]]][name] = each
    links = ", ".join(f"[{group}](#{group.lower().replace(' ', '-')})" for group in groups)
    sections = [part for group, members in groups.items() for part in _group_sections(group, members, shown)]
    source = "the commands of rackwright/cli and the pages of docs"
    return page("Commands", source, INTRODUCTION.format(links=links), *sections)


def render_examples() -> str:
    """Return the examples of the help texts: for each command the shortest one, below its name."""
    shown = examples.of_commands()
    return "".join(f"{name}\t{shown[name][0].text}\n" for name, _ in commands())


def _group_sections(
    group: str, members: Mapping[str, Command], shown: Mapping[str, Sequence[examples.Example]]
) -> Iterator[str]:
    yield f"## {group}"
    rows = ((f"[`rackwright {name}`](#{_anchor(name)})", _paragraphs(each)[0]) for name, each in members.items())
    yield table(("command", "effect"), rows)
    yield from (_section(name, each, shown[name]) for name, each in members.items())


def _section(name: str, command: Command, shown: Sequence[examples.Example]) -> str:
    parameters = [each for each in command.params if not each.hidden and each.name != "help"]
    usage = " ".join(["rackwright", name, *(_usage(each) for each in parameters)])
    rows = [(code(_names(each)), _help(each), _values(each)) for each in parameters]
    parts = [f"### rackwright {name}", *_paragraphs(command), f"```text\n{usage}\n```"]
    pages = " and ".join(dict.fromkeys(each.link for each in shown))
    parts += ["\n".join(["```sh", *(each.text for each in shown), "```"]), f"From {pages}."]
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

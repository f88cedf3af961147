"""The commands of rackwright, from typer's tree."""

from collections.abc import Iterator
from typing import Any

import typer.main

from rackwright.cli.app import app

Command = Any
"""A command or parameter of typer, whose classes are private."""


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

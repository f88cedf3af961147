"""The paragraphs of help texts. Typer joins the lines of a docstring's first paragraph alone."""

import inspect
from collections.abc import Mapping
from pathlib import Path

import typer

STATUSES = "Exit status: 0 as declared, 1 differs, 2 wrong or refused, 3 not reached or unknown, 4 a step failed."
"""The exit statuses of commands that list none of their own."""


def join_lines(app: typer.Typer) -> None:
    """Give each command of *app* and of its groups a help text with a line for each paragraph of its docstring."""
    for command in app.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
        command.help, command.short_help = (
            "\n\n".join(paragraphs),
            paragraphs[0],
        )  # the list of commands cuts a longer one
    for group in app.registered_groups:
        if group.typer_instance:
            group.short_help = str(group.typer_instance.info.help or "")
            join_lines(group.typer_instance)


def add_epilogs(app: typer.Typer) -> None:
    """Give each command of *app* and of its groups its example, and the exit statuses if its text has none."""
    lines = (Path(__file__).parent / "command_examples.txt").read_text(encoding="utf-8").splitlines()
    _add_epilogs(app, "", dict(line.split("\t") for line in lines))


def _add_epilogs(app: typer.Typer, group: str, examples: Mapping[str, str]) -> None:
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        parts = [f"Example: {examples[group + name]}"] if group + name in examples else []
        if "Exit status" not in str(command.help):
            parts.append(STATUSES)
        command.epilog = "\n\n".join(parts)
    for each in app.registered_groups:
        if each.typer_instance:
            _add_epilogs(each.typer_instance, f"{each.name} " if each.name else group, examples)

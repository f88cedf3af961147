"""The paragraphs of help texts. Typer joins the lines of a docstring's first paragraph alone."""

import inspect

import typer


def join_lines(app: typer.Typer) -> None:
    """Give each command of *app* and of its groups a help text with a line for each paragraph of its docstring."""
    for command in app.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance:
            join_lines(group.typer_instance)

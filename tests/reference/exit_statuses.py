"""The page of the exit statuses, from the exceptions of rackwright and the help of the commands."""

import re
from collections.abc import Iterator

from rackwright import errors
from rackwright.errors import UserError
from tests.reference.cli import commands
from tests.reference.markdown import code, page, table

GENERAL = (
    ("0", "The result is as declared, or the command did what it should."),
    ("1", "A property differs, or only a person can make it as declared."),
    ("2", "The declaration or the command is wrong, or rackwright refused it. Nothing was done."),
    ("3", "A host was not reached, or a property is unknown, and no property is known to differ."),
    ("4", "A step failed, or a program that rackwright runs was killed."),
    ("130", "Ctrl-C ended the command. Running it again is safe."),
)


def render() -> str:
    """Return docs/reference/exit-statuses.md."""
    classes = [
        (code(name), str(value.exit_status), " ".join((value.__doc__ or "").split()))
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, UserError) and value is not UserError
    ]
    return page(
        "Exit statuses",
        "rackwright/errors.py and the help of the commands",
        table(("status", "meaning"), GENERAL),
        "## Errors",
        table(("error", "status", "meaning"), classes),
        "## Commands with statuses of their own",
        table(("command", "statuses"), _own()),
    )


def _own() -> Iterator[tuple[str, str]]:
    for name, command in commands():
        text = " ".join((command.help or "").replace("\b", "").split())
        if found := re.search(r"Exit status: (.*)", text):
            yield code(f"rackwright {name}"), found[1]

"""The page of the exit statuses, from the exceptions of rackwright and the help of the commands."""

import re
from collections.abc import Iterator

from rackwright import errors
from rackwright.errors import UserError
from rackwright.exit_status import MEANINGS
from tests.reference.command_tree import commands
from tests.reference.markdown import code, page, table

GENERAL = tuple((str(status.value), text) for status, text in MEANINGS.items())


def render() -> str:
    """Return docs/reference/exit-statuses.md."""
    classes = [
        (code(name), str(value.exit_status), " ".join((value.__doc__ or "").split()))
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, UserError) and value is not UserError
    ]
    return page(
        "Exit statuses",
        "rackwright/exit_status.py, rackwright/errors.py and the help of the commands",
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

"""The explain command: causes and cures of an error, from docs/troubleshooting.md, and the rules of the audit."""

import re
from pathlib import Path
from typing import Annotated

import typer

from rackwright import locations, terminal
from rackwright.cli.arguments import OPERATE
from rackwright.errors import DeclarationError, Diagnostic

app = typer.Typer()
PAGE = "troubleshooting.md"
HEADING = re.compile(r"^#{2,3} (.+)\n", re.M)
ID = re.compile(r"[a-z]+(-[a-z]+)+")
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def documentation() -> Path:
    """Return the directory of the documentation, in a checkout and in an installation."""
    return locations.repository() / "docs"


def sections() -> dict[str, str]:
    """Return the text below each heading of the page that is the id of an error."""
    _, *parts = HEADING.split((documentation() / PAGE).read_text(encoding="utf-8"))
    below = zip(parts[::2], parts[1::2], strict=True)
    return {heading: text.strip() for heading, text in below if ID.fullmatch(heading)}


def format_section(text: str) -> str:
    """Return *text* for a terminal: without emphasis, and with the path of each page that it links to."""
    return LINK.sub(lambda link: f"{link[1]} ({documentation() / link[2]})", text).replace("**", "")


def rules() -> dict[str, str]:
    """Return the text about each rule of the audit, by id."""
    from rackwright.audit.undeclared.table import RULES

    return {
        id: (
            f"{rule.sentence}\n\nSeverity. {rule.severity}\n\nWhy. {rule.why}\n\n"
            f"Remedy. {rule.remedy}\n\nSource. {rule.source}"
        )
        for id, rule in RULES.items()
    }


def _complete_id(incomplete: str) -> list[str]:
    return [id for id in {**sections(), **rules()} if id.startswith(incomplete)]


@app.command(rich_help_panel=OPERATE)
def explain(
    id: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help="As in error[ID], or as in RW-014; without it, all ids.", autocompletion=_complete_id
        ),
    ] = None,
) -> None:
    """Print the causes and cures of an error, or a rule of the audit, by its id. Needs no project and no connection."""
    from rackwright.schema.problem import hint

    known = sections()
    if id not in known:
        known |= rules()  # their import takes longer than all the rest
    if id is None:
        for name, text in known.items():
            terminal.show(f"{name:<24} {text.partition(chr(10))[0]}")
    elif id in known:
        terminal.show(format_section(known[id]))
    else:
        help = hint(id, known, "Run `rackwright explain` for all ids")
        raise DeclarationError(Diagnostic("ID", f"got {id}", "the id of an error or of a rule", help))

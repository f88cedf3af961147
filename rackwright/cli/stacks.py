"""The command stacks, and what a shell completes."""

from dataclasses import dataclass
from typing import Literal

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import DeclarationError, UserError
from rackwright.locations import stack_names


@dataclass(frozen=True)
class StackRow:
    """One stack of the project."""

    stack: str
    """Name of the stack."""
    target: str
    """`rack`, or the twin of the stack; empty if its settings have an error."""
    fleet: str
    """Name of the fleet's file; empty if its settings have an error."""
    hosts: int
    """Number of hosts; 0 if the declaration has an error."""
    problem: str = ""
    """The first error of its settings, or the number of errors in its fleet; empty without errors."""


def complete(incomplete: str) -> list[str]:
    """Return the stacks that begin with *incomplete*, for the shell's completion."""
    try:
        return [name for name in stack_names(project.directory()) if name.startswith(incomplete)]
    except UserError:
        return []


def complete_host(stack: str, incomplete: str) -> list[str]:
    """Return the hosts of *stack* that begin with *incomplete*, for the shell's completion."""
    try:
        return [name for name in project.stack(stack).fleet.hosts if name.startswith(incomplete)]
    except UserError:
        return []


def complete_use(stack: str, uses: Literal["runs", "servers"], incomplete: str) -> list[str]:
    """Return the runs or servers of *stack* that begin with *incomplete*, for the shell's completion."""
    try:
        return [name for name in getattr(project.stack(stack).fleet, uses) if name.startswith(incomplete)]
    except UserError:
        return []


def show_stacks(as_json: bool) -> int:
    """Print the stacks of the project, and return the exit status: 2 if a declaration has errors."""
    rows = [_row(name) for name in stack_names(project.directory())]
    if as_json:
        terminal.show_json({"stacks": rows})
    else:
        texts = [tuple(map(str, vars(row).values())) for row in rows]
        terminal.console().print(terminal.table(("stack", "target", "fleet", "hosts", ""), texts))
    return 2 if any(row.problem for row in rows) else 0


def _row(name: str) -> StackRow:
    from rackwright.stack.settings import settings

    try:
        values = settings(name, project.directory())
    except DeclarationError as error:
        return StackRow(name, "", "", 0, error.diagnostics[0].problem)
    try:
        return StackRow(name, values["target"], values["fleet"], len(project.stack(name).fleet.hosts))
    except DeclarationError as error:
        count = len(error.diagnostics)
        problem = f"{count} error{'s' * (count > 1)} in its fleet"
        return StackRow(name, values["target"], values["fleet"], 0, problem)

"""Commands about one drive."""

from typing import Annotated

import typer

from rackwright.cli import project

app = typer.Typer(no_args_is_help=True, help="One drive of a host.")


@app.callback()
def _drive() -> None: ...


@app.command()
def replace(
    stack: Annotated[str, typer.Argument(metavar="STACK")],
    host: Annotated[str, typer.Argument(metavar="HOST")],
    old: Annotated[str, typer.Argument(metavar="OLD", help="Serial of the drive that goes.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Serial of the drive that takes its place.")],
) -> None:
    """Write another drive into the fleet's file; the next `up` copies to it, or rebuilds on it. Touches no host."""
    from rackwright.declaration import hosts_lines
    from rackwright.declaration.stack import settings

    root = project.directory()
    path = root / "stacks" / settings(stack, root)["fleet"]
    text = hosts_lines.with_another_drive(path, host, old, new)
    hosts_lines.check(text, path)
    project.replace(path, text)
    project.say(
        f"{path.name}: {host} has {new} in the place of {old}; see what that does with `rackwright preview {stack}`"
    )

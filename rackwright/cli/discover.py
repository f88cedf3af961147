"""The discover command: it writes existing hosts as a fleet's file."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rackwright import scratch, terminal
from rackwright.cli import project
from rackwright.cli.arguments import DECLARE, AsJson
from rackwright.errors import DeclarationError
from rackwright.exit_status import gravest
from rackwright.files import write_atomic

if TYPE_CHECKING:
    from rackwright.cli.json_types import Discovery, ErrorData

app = typer.Typer()


@app.command(rich_help_panel=DECLARE)
def discover(
    addresses: Annotated[
        list[str], typer.Argument(metavar="[USER@]ADDRESS[:PORT]", help="The SSH addresses of the hosts.")
    ],
    key: Annotated[Path | None, typer.Option(help="Private key for the login; by default those of ssh-agent.")] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="FLEET.yaml", help="Add the hosts to this file, and pin their host keys.")
    ] = None,
    trusted: Annotated[
        list[str] | None,
        typer.Option(
            "--fingerprint", metavar="SHA256:…", help="Fingerprint of a host key to trust without a question."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a fleet's file for existing hosts: drives, tiers, ports. Writes nothing to a host.

    Exit status: 2 a key is not trusted, or the lines are no valid fleet yet; 3 a host was not reached, or lacks facts.
    """
    from rackwright.fleet import edit_hosts
    from rackwright.hosts.discover import Place, discover_hosts
    from rackwright.schema.problem import Problem

    try:
        places = [Place.parse(address, key) for address in addresses]
    except Problem as problem:
        raise typer.BadParameter(str(problem), param_hint="ADDRESS") from None
    with scratch.directory() as folder, ExitStack() as undo:
        pins = into.with_suffix(".known_hosts") if into else Path(folder, "known_hosts")
        # the file of a fleet without the hosts has no pins of theirs
        undo.callback(_restore, pins, pins.read_bytes() if pins.exists() else None)
        hosts, errors = discover_hosts(places, pins, _Trust(frozenset(trusted or ())), project.notify)
        for error in errors:
            terminal.notify_error(error.render())
        status = gravest(error.exit_status for error in errors)
        discovery: Discovery = {
            "hosts": {name: {"declaration": host.host, "notes": host.notes} for name, host in hosts.items()},
            "errors": [cast("ErrorData", each.as_data()) for error in errors for each in error.diagnostics],
        }
        if not hosts:
            if as_json:
                terminal.show_json(discovery)
            raise typer.Exit(status)
        logins = [places[0].login.model_dump(exclude_defaults=True)]
        path = into or Path("rack.yaml")
        text = edit_hosts.add_hosts(path, into is not None and into.exists(), logins, hosts)
        try:
            project.check(path, text)
        except DeclarationError as wrong:
            project.notify(f"{wrong.render()}\nthe lines below are no valid fleet yet: complete them by hand")
            into, status = None, gravest((status, wrong.exit_status))
        if into:
            write_atomic(into, text)
            undo.pop_all()
    if into:
        project.notify(f"{into}: {', '.join(hosts)}")
    elif not as_json:
        terminal.show(text, end="")
    if as_json:
        terminal.show_json(discovery)
    raise typer.Exit(status)


def _restore(path: Path, content: bytes | None) -> None:
    """Give the file *path* its earlier *content*; None: there was no file."""
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


@dataclass(frozen=True)
class _Trust:
    """The decision to trust a host key: its fingerprint is an argument, or the operator confirms it."""

    trusted: frozenset[str]

    def __call__(self, name: str, fingerprint: str) -> bool:
        question = f"{name} has the host key {fingerprint}. Does its console show the same?"
        return fingerprint in self.trusted or terminal.confirm(question)

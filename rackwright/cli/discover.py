"""Hosts that are there, written down as a fleet."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import DeclarationErrors

app = typer.Typer()


@app.command()
def discover(
    addresses: Annotated[list[str], typer.Argument(metavar="[USER@]ADDRESS[:PORT]", help="Where their SSH answers.")],
    key: Annotated[Path | None, typer.Option(help="Private key to log in with; without it, ssh-agent's.")] = None,
    into: Annotated[Path | None, typer.Option(metavar="FLEET.yaml", help="Add them there, and pin their keys.")] = None,
    trusted: Annotated[
        list[str] | None, typer.Option("--fingerprint", metavar="SHA256:…", help="Of a host key that needs no asking.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print for machines.")] = False,
) -> None:
    """Write down what hosts are as a fleet's file has it: drives, tiers, ports. Nothing is written to a host.

    Exit status: 2 a key is not trusted, or the lines are no fleet yet; 3 a host was not reached, or tells too little.
    """
    from rackwright.fleet import edit_hosts
    from rackwright.hosts.discover import Place, discover_hosts
    from rackwright.schema.problem import Problem

    try:
        places = [Place.parse(address, key) for address in addresses]
    except Problem as problem:
        raise typer.BadParameter(str(problem), param_hint="ADDRESS") from None
    with tempfile.TemporaryDirectory() as folder:
        pins = into.with_suffix(".known_hosts") if into else Path(folder, "known_hosts")
        hosts, errors = discover_hosts(places, pins, _Trust(frozenset(trusted or ())), project.say)
    for error in errors:
        project.say(str(error))
    status = max((error.exit_status for error in errors), default=0)
    if not hosts:
        raise typer.Exit(status)
    logins = [places[0].login.model_dump(exclude_defaults=True)]
    path = into or Path("rack.yaml")
    text = edit_hosts.add_hosts(path, into is not None and into.exists(), logins, hosts)
    try:
        project.check(path, text)
    except DeclarationErrors as wrong:
        project.say(f"{wrong}\nthe lines below are no fleet yet: mend them by hand")
        into, status = None, max(status, wrong.exit_status)
    if into:
        project.replace(into, text)
        project.say(f"{into}: {', '.join(hosts)}")
    elif not as_json:
        terminal.show(text, end="")
    if as_json:
        terminal.show(
            json.dumps({name: {"host": host.host, "notes": host.notes} for name, host in hosts.items()}, indent=2)
        )
    raise typer.Exit(status)


@dataclass(frozen=True)
class _Trust:
    """Who says that a host's key is its own: who gave the fingerprint beforehand, else the person at the terminal."""

    given: frozenset[str]

    def __call__(self, name: str, shown: str) -> bool:
        question = f"{name} holds the host key {shown}. Does its console show the same?"
        return shown in self.given or terminal.confirm(question)

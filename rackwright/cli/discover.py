"""Hosts that are there, written down as a fleet."""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rackwright.cli import project
from rackwright.errors import DeclarationErrors, RackwrightError
from rackwright.spec.problem import Problem

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
    from rackwright.apply.discover import Place, look
    from rackwright.declaration import hosts_lines

    try:
        places = [Place.parse(address, key) for address in addresses]
    except Problem as problem:
        raise typer.BadParameter(str(problem), param_hint="ADDRESS") from None
    hosts: dict[str, Mapping[str, Any]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    status = 0
    with tempfile.TemporaryDirectory() as folder:
        pins = into.with_suffix(".known_hosts") if into else Path(folder, "known_hosts")
        for place in places:
            project.say(f"looking at {place.address}")
            try:
                found = look(
                    place, places[0].login, pins, lambda name, shown: shown in (trusted or ()) or _asked(name, shown)
                )
            except RackwrightError as error:
                project.say(str(error))
                status = max(status, error.exit_status)
                continue
            name = hosts_lines.free(found.name, hosts)
            hosts[name], notes[name] = found.host, found.notes
    if not hosts:
        raise typer.Exit(status)
    logins = [places[0].login.model_dump(exclude_defaults=True)]
    path = into or Path("rack.yaml")
    text = hosts_lines.text(path, into is not None and into.exists(), logins, hosts, notes)
    try:
        hosts_lines.check(text, path)
    except DeclarationErrors as errors:
        project.say(f"{errors}\nthe lines below are no fleet yet: mend them by hand")
        into, status = None, max(status, errors.exit_status)
    if into:
        project.replace(into, text)
        project.say(f"{into}: {', '.join(hosts)}")
    elif not as_json:
        print(text, end="")
    if as_json:
        print(json.dumps({"hosts": hosts, "notes": notes}, indent=2))
    raise typer.Exit(status)


def _asked(name: str, shown: str) -> bool:
    """Ask a person whether the key is the host's."""
    question = f"{name} holds the host key {shown}. Does its console show the same?"
    return sys.stdin.isatty() and typer.confirm(question, err=True)

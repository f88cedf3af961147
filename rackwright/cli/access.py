"""Commands about who gets in: a person's second factor, and the automation's certificate."""

import sys
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import OPERATE, AsJson, StackName
from rackwright.errors import Diagnostic, SetupError

if TYPE_CHECKING:
    from rackwright.access.enrolment import Enrolment
    from rackwright.cli.json_types import IssuedCertificate

app = typer.Typer()
"""The commands of this module; they stand among those of the stack."""


@app.command(rich_help_panel=OPERATE)
def enrol(
    stack: StackName,
    user: Annotated[str, typer.Argument(metavar="USER", help="One of the people of the role access.")],
    replace: Annotated[bool, typer.Option("--replace", help="Make a new secret; the old one is void.")] = False,
) -> None:
    """Give a person the second factor: writes it to the hosts, and shows it once."""
    from rackwright.access import enrolment
    from rackwright.cli import recording

    if not sys.stdout.isatty():
        expected, note = "a terminal", "the secret is shown once, and is written to no file"
        help = "Run the command again in a terminal that the person can see"
        raise SetupError(Diagnostic("enrol", "standard output is not a terminal", expected, help, note))
    loaded = project.stack(stack)
    planned = [recording.change(user, "write a new second factor" if replace else "write the second factor")]
    with recording.record("enrol", loaded, arguments={"user": user}, planned=planned) as operation:
        enrolled = enrolment.enrol(loaded, user, replace, project.notify)
        for host in (*enrolled.hosts, *enrolled.failures):
            operation.complete(host, user, "failed" if host in enrolled.failures else "done")
        recording.finish(operation, enrolment.exit_status(enrolled))
    if enrolled.secret:
        _show(enrolled)
    else:
        terminal.show(f"{user} keeps the secret: {', '.join(enrolled.hosts)} now has it too")
    place = f"roles.access.people of {user}"
    terminal.show(f'Write `factor: "{enrolled.digest}"` at {place}, so that audits find another key')
    for host, error in enrolled.failures.items():
        again = " with --replace" if enrolled.secret else ""
        project.notify(f"{host} did not get the secret: {error} Then run the command again{again}.")
    raise typer.Exit(enrolment.exit_status(enrolled))


def _show(enrolled: "Enrolment") -> None:
    import segno

    assert enrolled.secret is not None
    segno.make(enrolled.secret.uri(enrolled.person, enrolled.issuer), micro=False).terminal(compact=True)
    terminal.show(f"Scan it as {enrolled.issuer}:{enrolled.person}, or type {enrolled.secret.key}")
    terminal.show(f"Emergency codes, each good once: {' '.join(enrolled.secret.emergency)}")
    terminal.show("Neither can be shown again. Clear this terminal after you have stored both.")


@app.command(rich_help_panel=OPERATE)
def cert(
    stack: StackName,
    ca: Annotated[
        str,
        typer.Option(
            envvar="RACKWRIGHT_CA",
            help="The authority: path of its private key, `agent`, or `pkcs11:LIBRARY`.",
            show_default=False,
        ),
    ],
    minutes: Annotated[int, typer.Option(min=1, max=480, help="For how long it lets in.")] = 15,
    principal: Annotated[list[str] | None, typer.Option(help="A declared principal; all of them without it.")] = None,
    key: Annotated[Path | None, typer.Option(help="The automation's key; without it that of the login.")] = None,
    source_address: Annotated[
        list[str] | None, typer.Option(help="Only address or network from which the certificate works.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Issue a short-lived certificate for the automation's key."""
    from rackwright.access import certificates
    from rackwright.cli import recording

    loaded = project.stack(stack)
    names = {"principals": " ".join(principal or ()), "minutes": str(minutes)}
    with recording.record("cert", loaded, arguments=names, planned=[]) as operation:
        issued = certificates.issue(loaded, key, ca, principal or (), minutes, source_address or ())
        operation.complete("", f"certificate {issued.serial} for {', '.join(issued.principals)}", "done")
    if as_json:
        data: IssuedCertificate = {
            "path": str(issued.path),
            "serial": issued.serial,
            "principals": issued.principals,
            "valid_until": issued.until.astimezone(UTC).isoformat(timespec="seconds"),
        }
        terminal.show_json(data)
        return
    terminal.show(f"{issued.path}: for {', '.join(issued.principals)}, serial {issued.serial}")
    terminal.show(f"until {issued.until:%Y-%m-%d %H:%M:%S} UTC")

"""Commands about one drive."""

import json
from pathlib import Path
from typing import Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.errors import DeclarationErrors, command

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
    from rackwright.fleet import edit_hosts

    if wrong := list(project.stack(stack).unknown_host_errors(host)):
        raise DeclarationErrors(wrong)
    path = project.rewrite(stack, lambda path: edit_hosts.replace_drive(path, host, old, new))
    project.say(
        f"{path.name}: {host} has {new} in the place of {old};"
        f" see what that does with {command('rackwright preview {}', stack)}"
    )


@app.command()
def locate(
    stack: Annotated[str, typer.Argument(metavar="STACK")],
    host: Annotated[str, typer.Argument(metavar="HOST")],
    serial: Annotated[str, typer.Argument(metavar="SERIAL")],
    off: Annotated[bool, typer.Option("--off", help="Let it blink no more.")] = False,
) -> None:
    """Let the light at a drive's bay blink until --off, so that a person pulls that one.

    Exit status: 0 it blinks, 2 the host has no such drive, 3 not reached, 4 it has no light that ledctl reaches.
    """
    from rackwright.hosts.locate import locate
    from rackwright.schema.units import format_size

    loaded = project.stack(stack)
    with project.connected(loaded) as hosts:
        drive = locate(hosts, loaded, host, serial, not off)
    doing = (
        "blinks no more"
        if off
        else f"blinks until {command('rackwright drive locate {} {} {} --off', stack, host, serial)}"
    )
    terminal.show(
        f"{host}: {serial} ({drive.model}, {drive.bus}, {format_size(drive.size_bytes)}, {drive.path}) {doing}"
    )


@app.command()
def erase(
    stack: Annotated[str, typer.Argument(metavar="STACK")],
    host: Annotated[str, typer.Argument(metavar="HOST")],
    serials: Annotated[list[str], typer.Argument(metavar="SERIAL...", help="The drives.")],
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="format: NVMe Format, user data erase. crypto-erase: the same, by changing the drive's key. "
            "discard: every block, as blkdiscard does. overwrite: zeros, once.",
        ),
    ],
    sign_with: Annotated[
        Path,
        typer.Option(metavar="KEY", help="An SSH key of yours; of a public one, the agent has the private one."),
    ],
    certificate: Annotated[Path, typer.Option(metavar="FILE", help="Where it goes, its signature as FILE.sig beside.")],
    consent: Annotated[
        list[str] | None,
        typer.Option(metavar="SERIAL=CONTENT", help="What is given up, as it is printed without this; one each."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result for machines.")] = False,
) -> None:
    """Erase whole drives of a host, read all of them back, and write a signed certificate of what was erased and how.

    Without --consent it tells what is on each drive, and erases nothing. A drive that is used, that starts the host, or
    that is of a declared tier is refused. It takes as long as the drives take to be read, and written.

    Exit status: 0 all are erased, 4 one is not, or something was left on it, 2 refused, or only told, 3 not reached.
    """
    from rackwright.erase import certificate as certificates
    from rackwright.erase.run import DryRun, EraseRequest
    from rackwright.erase.run import erase as run

    loaded = project.stack(stack)
    request = EraseRequest(host, tuple(serials), method, tuple(consent or ()), sign_with.expanduser(), certificate)
    with project.connected(loaded) as hosts:
        ended = run(hosts, loaded, request, project.say)
    if isinstance(ended, DryRun):
        terminal.show(json.dumps({"erased": [], "holds": ended.drives}, indent=2) if as_json else ended.text)
        project.say("nothing was erased: nothing was given up")
        raise typer.Exit(2)
    for failure in ended.failures:
        project.say(str(failure))
    done = [drive.serial for drive in ended.certificate.drives] if ended.certificate else []
    if ended.certificate:
        certificates.write(ended.certificate, certificate, request.key)
    if as_json:
        told = {"erased": done, "failed": [str(failure) for failure in ended.failures]}
        terminal.show(json.dumps({**told, "certificate": str(certificate) if done else None}, indent=2))
    elif done:
        terminal.show(
            f"{', '.join(done)}: erased and read back; {certificate} says how, {certificate.name}.sig who says so"
        )
    if not done:
        project.say("no certificate was written")
    raise typer.Exit(max((failure.exit_status for failure in ended.failures), default=0))


@app.command()
def certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `rackwright drive erase` has written.")],
    allowed_signers: Annotated[
        Path, typer.Option(metavar="FILE", help="Who may sign: NAME and public key a line, as ssh-keygen reads it.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print what it says for machines.")] = False,
) -> None:
    """Prove a certificate: who has signed it, and that nothing in it was changed. Needs no host and no stack.

    Exit status: 0 it is proved, 1 it is not, 2 a file is not there.
    """
    from rackwright.erase.certificate import verify

    proved, signer = verify(file, allowed_signers)
    if as_json:
        terminal.show(json.dumps({"signer": signer, "certificate": proved.model_dump(mode="json")}, indent=2))
        return
    for drive in proved.drives:
        terminal.show(f"{proved.host}: {drive.serial} ({drive.model}, {drive.bus}, {drive.size_bytes} bytes)", end=": ")
        terminal.show(
            f"{drive.method}, NIST {drive.nist.term}, {drive.ended_at:%Y-%m-%d %H:%M} UTC, all read back as zeros"
        )
    terminal.show(f"{file}: signed by {signer}, and not changed since")

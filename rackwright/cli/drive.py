"""The commands for one drive."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, HostName, StackName
from rackwright.errors import DeclarationError, command
from rackwright.exit_status import gravest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rackwright.cli.json_types import CertificateCheck, ErasureData, ErrorData, LightData

app = typer.Typer(no_args_is_help=True, help="One drive of a host.")


@app.callback()
def _drive() -> None: ...


@app.command()
def replace(
    stack: StackName,
    host: HostName,
    old: Annotated[str, typer.Argument(metavar="OLD", help="Serial of the drive to replace.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Serial of its replacement.")],
) -> None:
    """Replace a drive in the fleet's file; the next `up` copies to the new drive, or rebuilds it. Touches no host."""
    from rackwright.cli import recording
    from rackwright.fleet import edit_hosts

    if wrong := list(project.stack(stack).unknown_host_errors(host)):
        raise DeclarationError(*wrong)
    planned = [recording.change(new, f"replace {old} in the fleet's file", host)]
    with recording.record("drive replace", stack, [host], planned=planned):
        path = project.rewrite(stack, lambda path: edit_hosts.replace_drive(path, host, old, new))
    project.notify(
        f"{path.name}: {host} has {new} in the place of {old};"
        f" to see the effect, run {command('rackwright preview {}', stack)}"
    )


@app.command()
def locate(
    stack: StackName,
    host: HostName,
    serial: Annotated[str, typer.Argument(metavar="SERIAL")],
    off: Annotated[bool, typer.Option("--off", help="Switch the light off.")] = False,
    as_json: AsJson = False,
) -> None:
    """Blink the light at a drive's bay until --off, so that the right drive is pulled.

    Exit status: 0 it blinks, 2 the host has no such drive, 3 not reached, 4 ledctl controls no light of the drive.
    """
    from rackwright.hosts.locate import locate
    from rackwright.schema.units import format_size

    loaded = project.stack(stack)
    with project.connect_hosts(loaded) as hosts:
        drive = locate(hosts, loaded, host, serial, not off)
    if as_json:
        data: LightData = {
            "host": host,
            "serial": serial,
            "model": drive.model,
            "bus": drive.bus,
            "size_bytes": drive.size_bytes,
            "path": drive.path,
            "blinks": not off,
        }
        terminal.show_json(data)
        return
    light = (
        "no longer blinks"
        if off
        else f"blinks until {command('rackwright drive locate {} {} {} --off', stack, host, serial)}"
    )
    terminal.show(
        f"{host}: {serial} ({drive.model}, {drive.bus}, {format_size(drive.size_bytes)}, {drive.path}) {light}"
    )


@app.command()
def erase(
    stack: StackName,
    host: HostName,
    serials: Annotated[list[str], typer.Argument(metavar="SERIAL...", help="Serials of the drives.")],
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
        typer.Option(metavar="KEY", help="Your SSH key; of a public key, ssh-agent holds the private one."),
    ],
    certificate: Annotated[
        Path, typer.Option(metavar="FILE", help="File for the certificate; its signature is FILE.sig.")
    ],
    consent: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SERIAL=CONTENT", help="The data to destroy, as printed without this option; one for each drive."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Erase whole drives of a host, read all of them back, and write a signed certificate of what was erased and how.

    Without --consent, the command prints the content of each drive and erases nothing. It refuses a drive that is in
    use, a boot drive, and a drive of a declared tier. It reads each drive completely; some methods write it as well.

    Exit status: 0 all drives are erased, 4 a drive is not, or has data left, 2 refused, or no consent, 3 not reached.
    """
    from rackwright.cli import recording
    from rackwright.erase import certificate as certificates
    from rackwright.erase.run import DryRun, EraseRequest
    from rackwright.erase.run import erase as run

    loaded = project.stack(stack)
    request = EraseRequest(host, tuple(serials), method, tuple(consent or ()), sign_with.expanduser(), certificate)
    with (
        recording.record("drive erase", loaded, [host], {"method": method}) as operation,
        project.connect_hosts(loaded) as hosts,
    ):

        def start(contents: "Mapping[str, str]") -> None:
            operation.begin(
                [recording.change(serial, f"erase by {method}", host, [held]) for serial, held in contents.items()]
            )

        result = run(hosts, loaded, request, project.notify, start)
        if not isinstance(result, DryRun):
            erased = {drive.serial for drive in result.certificate.drives} if result.certificate else set()
            for serial in serials:
                operation.complete(host, serial, "done" if serial in erased else "failed")
            recording.finish(operation, gravest(failure.exit_status for failure in result.failures))
    if isinstance(result, DryRun):
        if as_json:
            contents: ErasureData = {"erased": [], "contents": result.drives, "errors": [], "certificate": None}
            terminal.show_json(contents)
        else:
            terminal.show(result.text)
        project.notify("nothing was erased: no --consent was given")
        raise typer.Exit(2)
    for failure in result.failures:
        project.notify(str(failure))
    done = [drive.serial for drive in result.certificate.drives] if result.certificate else []
    if result.certificate:
        certificates.write(result.certificate, certificate, request.key)
    if as_json:
        held = {drive.serial: drive.held for drive in result.certificate.drives} if result.certificate else {}
        errors = [cast("ErrorData", each.as_data()) for failure in result.failures for each in failure.diagnostics]
        path = str(certificate) if done else None
        outcome: ErasureData = {"erased": done, "contents": held, "errors": errors, "certificate": path}
        terminal.show_json(outcome)
    elif done:
        terminal.show(f"{', '.join(done)}: erased and read back; see {certificate}, signed by {certificate.name}.sig")
    if not done:
        project.notify("no certificate was written")
    raise typer.Exit(gravest(failure.exit_status for failure in result.failures))


@app.command()
def certificate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A certificate of `rackwright drive erase`.")],
    allowed_signers: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Allowed signers, in the form of ssh-keygen: a NAME and a public key per line."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Verify a certificate: its signer, and that it was not changed. Needs no host and no stack.

    Exit status: 0 it is valid, 1 it is not, 2 a file does not exist.
    """
    from rackwright.erase.certificate import verify

    verified, signer = verify(file, allowed_signers)
    if as_json:
        check: CertificateCheck = {"signer": signer, "certificate": verified}
        terminal.show_json(check)
        return
    for drive in verified.drives:
        terminal.show(
            f"{verified.host}: {drive.serial} ({drive.model}, {drive.bus}, {drive.size_bytes} bytes)", end=": "
        )
        terminal.show(
            f"{drive.method}, NIST {drive.nist.term}, {drive.ended_at:%Y-%m-%d %H:%M} UTC, all read back as zeros"
        )
    terminal.show(f"{file}: signed by {signer}, and not changed since then")

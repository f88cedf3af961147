"""The commands for registries of container images."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName
from rackwright.errors import ChangeRefused, Diagnostic, SetupError

if TYPE_CHECKING:
    from rackwright.cli.json_types import PushedImage
    from rackwright.stack import Stack
    from rackwright.stack.registries import Registry

app = typer.Typer(no_args_is_help=True, help="The registries of container images of a stack.")
VARIABLE = "RACKWRIGHT_REGISTRY_PASSWORD"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?P<repository>{_PART}(?:/{_PART})*):(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})")
"""A name in a registry. Source: OCI distribution specification, "Pulling manifests"."""


@app.callback()
def _group() -> None:
    """A callback, without which an application of one command has no names of commands."""


@app.command()
def push(
    stack: StackName,
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="An image as an archive or directory of OCI.")],
    name: Annotated[str, typer.Argument(metavar="NAME:TAG", help="The name and the tag in the registry.")],
    account: Annotated[str, typer.Option(metavar="NAME", help="A declared account that writes.")],
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="The host with the registry; not needed if there is only one.")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"The password; without it that in {VARIABLE}, or the secret of the stack."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send a container image to a declared registry, and print the name by which hosts pull it, with its digest.

    Every part is compared with its digest before it is sent, and again by the registry. Parts that the registry has are
    not sent, so that the same command continues after an interruption. Exit status: 0 the registry has the image, 2 the
    archive is damaged, or something is wrong or refused, 3 the registry was not reached, 4 it refused a request.
    """
    from rackwright.cli import recording
    from rackwright.endpoints.oci_archive import open_image
    from rackwright.endpoints.proxy import open_proxy
    from rackwright.endpoints.registry import RegistryClient
    from rackwright.schema.object_store import is_loopback
    from rackwright.stack import registries

    match = _NAME.fullmatch(name)
    if match is None:
        expected = "a name of small letters and digits with single . _ - / between them, and a tag"
        raise ChangeRefused(Diagnostic("NAME:TAG", f"got {name!r}", expected, "Write it like vision/digits:3"))
    loaded = project.stack(stack)
    registry = registries.find(loaded, host)
    project.require_twin(loaded)
    password = _password(loaded, registry, account, password_file)
    with open_image(archive) as image:
        planned = [recording.change(f"{registry.host}/registry", f"push {name}", registry.host)]
        with recording.record("registry push", loaded, [registry.host], {"image": name, "account": account}, planned):
            is_behind_host = loaded.twin is not None or is_loopback(registry.url)
            proxy = open_proxy(loaded, registry.host, registry.url) if is_behind_host else None
            client = RegistryClient(registry.url, registry.authority, account, password, proxy)
            pushed = client.push(image, match["repository"], match["tag"], project.notify)
    if as_json:
        document: PushedImage = {"image": pushed.reference, "sent": pushed.sent, "present": pushed.present}
        terminal.show_json(document)
        return
    terminal.show(pushed.reference)


def _password(stack: "Stack", registry: "Registry", account: str, file: Path | None) -> str:
    """Return the password of *account* from *file*, the environment or the secrets of *stack*.

    Raises:
        ChangeRefused: No declared account of this name writes.
        SetupError: The file or the secret cannot be read.
    """
    import os

    from rackwright.stack.registries import secret_of

    secret = secret_of(registry, account)
    if file is not None:
        try:
            return file.read_text().rstrip("\n")
        except OSError as error:
            problem, help = f"got {file}: {error.strerror}", "Correct the path"
            raise SetupError(Diagnostic("--password-file", problem, help=help)) from None
    if given := os.environ.get(VARIABLE):
        return given
    if known := stack.repository.secrets.get(secret):
        return known
    return project.secrets(stack).repository.secrets[secret]

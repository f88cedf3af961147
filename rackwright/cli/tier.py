"""The commands that move directories between a tier and a bucket."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project, recording
from rackwright.cli.arguments import StackName
from rackwright.errors import DeclarationError, Diagnostic

if TYPE_CHECKING:
    from rackwright.tiering.archive import Bucket

app = typer.Typer(no_args_is_help=True, help="Directories in buckets: the cold tier.")
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The directory, on this computer.")]
BucketName = Annotated[str, typer.Argument(metavar="BUCKET", help="A bucket of the stack's fleet.")]
ArchiveName = Annotated[str, typer.Argument(metavar="ARCHIVE", help="Name of an archive in the bucket.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the archive; by default that of the directory.")
]


@app.command("plan")
def plan_(stack: StackName, directory: Directory, bucket: BucketName, name: NameOption = None) -> None:
    """Print what `tier move` would upload. Reads only.

    Exit status: 0 it was printed, 2 the move would be refused, 3 the store was not reached.
    """
    from rackwright.tiering import archive

    opened = _open(stack, bucket)
    planned = archive.plan(opened, name or directory.resolve().name, directory)
    terminal.show("\n".join(planned.lines(opened)))


@app.command()
def move(
    stack: StackName,
    directory: Directory,
    bucket: BucketName,
    name: NameOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the directory.")] = False,
    bandwidth: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bytes per second at most, such as 100MiB.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Move without a question.")] = False,
) -> None:
    """Upload a directory into a bucket, read back every file, then delete the directory.

    An interrupted move continues with the missing files. Nothing is deleted before all files were read back.

    Exit status: 0 moved, 1 a file was read back with another content, 2 refused, 3 the store was not reached, 4 failed.
    """
    from rackwright.schema.units import parse_size
    from rackwright.tiering import archive

    opened = _open(stack, bucket)
    planned = archive.plan(opened, name or directory.resolve().name, directory)
    terminal.show("\n".join(planned.lines(opened)))
    if not keep:
        terminal.show(f"then delete {len(planned.sources)} files of {directory}")
    if not yes:
        terminal.require("Run it on a terminal, or pass --yes to move without a question")
        if not terminal.confirm("Move?"):
            project.notify("nothing was moved")
            raise typer.Exit(2)
    losses = () if keep else (f"{directory}: {len(planned.sources)} files, after they were read back",)
    change = recording.change(opened.where(planned.manifest.name), "move", destroys=losses)
    limit = parse_size(bandwidth) if bandwidth else None
    with recording.record("tier move", stack, planned=[change]):
        archive.move(opened, planned, directory, keep, limit, project.notify)
    terminal.show(f"{opened.where(planned.manifest.name)}: {len(planned.sources)} files, read back intact")


@app.command()
def restore(
    stack: StackName,
    bucket: BucketName,
    archive_name: ArchiveName,
    to: Annotated[Path, typer.Option(metavar="DIR", help="Directory to write.")],
) -> None:
    """Download an archive into a directory, and compare the digest of every file. Overwrites nothing.

    Exit status: 0 restored, 1 a file is damaged, 2 refused, 3 the store was not reached, 4 failed.
    """
    from rackwright.tiering import archive

    opened = _open(stack, bucket)
    manifest = archive.load_manifest(opened, archive_name)
    archive.restore(opened, manifest, to, project.notify)
    terminal.show(f"{to}: {len(manifest.files)} files, as in the manifest")


@app.command()
def verify(
    stack: StackName,
    bucket: BucketName,
    archives: Annotated[
        list[str] | None, typer.Argument(metavar="[ARCHIVE]...", help="Names of archives; all by default.")
    ] = None,
) -> None:
    """Read every file of archives in a bucket, and compare its digest. Writes nothing.

    Exit status: 0 every byte is intact, 1 a file is damaged, 2 there is no such archive, 3 the store was not reached.
    """
    from rackwright.tiering import archive
    from rackwright.tiering.manifest import ArchiveDamaged

    opened = _open(stack, bucket)
    damage: list[Diagnostic] = []
    for name in archives or archive.list_archives(opened):
        try:
            manifest = archive.load_manifest(opened, name)
            archive.verify(opened, manifest, project.notify)
            terminal.show(f"{opened.where(name)}: {len(manifest.files)} files, intact")
        except ArchiveDamaged as error:
            damage += error.diagnostics
    if damage:
        raise ArchiveDamaged(*damage)


def _open(stack: str, bucket: str) -> "Bucket":
    """Return the bucket of the stack's fleet, with the account that manages it.

    Raises:
        DeclarationError: the fleet has no such bucket.
    """
    from rackwright.endpoints import s3
    from rackwright.schema.problem import hint
    from rackwright.tiering.archive import Bucket

    loaded = project.secrets(project.stack(stack))
    buckets = loaded.fleet.buckets
    if bucket not in buckets:
        expected = f"one of {', '.join(buckets) or 'none'}"
        help = hint(bucket, buckets, "Declare it under buckets")
        raise DeclarationError(Diagnostic(f"stack {stack}", f"the fleet has no bucket {bucket}", expected, help))
    return Bucket(bucket, s3.connect(loaded, buckets[bucket].store).signed)

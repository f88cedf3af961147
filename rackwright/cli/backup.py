"""The commands that write and restore archives of checkpoints."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rackwright import scratch, terminal
from rackwright.cli import activity, project
from rackwright.cli.arguments import MODELS, AsJson
from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic

if TYPE_CHECKING:
    from rackwright.cli.json_types import CheckpointData
    from rackwright.tiering.bucket import Bucket
    from workloads.checkpoint.archive import VerifiedCheckpoint

app = typer.Typer()
S3 = "s3://"
Compression = Literal["none", "gz", "zst"]
"""The values of the enumeration in workloads.checkpoint.archive, which takes long to import."""


Stack = Annotated[str | None, typer.Option("--stack", help="Stack whose fleet has the bucket.")]


@app.command(rich_help_panel=MODELS)
def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a training's checkpoints.")],
    to: Annotated[
        str, typer.Option(metavar="DIR", help="Directory for the archive, or s3://BUCKET with --stack.")
    ] = ".",
    step: Annotated[
        int | None, typer.Option(help="The step of the checkpoint; by default the newest intact one.")
    ] = None,
    compression: Annotated[Compression, typer.Option(help="Weights hardly shrink, and gz is slow.")] = "none",
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Write an archive of a checkpoint, with the time in its name, and read it back.

    For a bucket, the command makes the archive in a temporary directory first.

    Exit status: 0 the archive is whole, 1 the checkpoint is damaged, 2 there is no checkpoint, 3 the store was not
    reached, 4 writing failed.
    """
    from rackwright.cli import recording
    from workloads.checkpoint import archive

    bucket, place = _bucket(to, stack), ""
    with (
        recording.record("backup", arguments={"from": str(directory), "to": to}, planned=[]),
        activity.show_work() as progress,
    ):
        progress(f"writing an archive of {directory}, and reading it back")
        if bucket is None:
            verified = archive.backup(directory, Path(to), step, archive.Compression(compression))
        else:
            with scratch.directory() as temporary:
                verified = archive.backup(directory, temporary, step, archive.Compression(compression))
                place = _upload(bucket, verified.path)
    _print_result(verified, as_json, place)


@app.command(rich_help_panel=MODELS)
def restore(
    path: Annotated[
        str,
        typer.Argument(metavar="ARCHIVE", help="An archive of `rackwright backup`, or s3://BUCKET/NAME with --stack."),
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of checkpoints. Without it, nothing is written.")
    ] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Verify all digests of an archive and, with --to, restore its checkpoint. Overwrites nothing.

    Exit status: 0 every byte is intact, 1 it is damaged, 2 the checkpoint exists already, 3 the store was not reached,
    4 reading or writing failed.
    """
    from rackwright.cli import recording
    from workloads.checkpoint import archive

    with _local(path, stack) as local, activity.show_work() as progress:
        progress(f"reading {path}")
        if to is None:
            verified = archive.verify(local)
        else:
            with recording.record("restore", arguments={"from": path, "to": str(to)}, planned=[]):
                verified = archive.restore(local, to)
    _print_result(verified, as_json, path if to is None else "")


def _bucket(place: str, stack: str | None) -> "Bucket | None":
    """Return the bucket of ``s3://BUCKET`` or ``s3://BUCKET/NAME``; None for a path of this computer.

    Raises:
        DeclarationError: no stack was named, or its fleet has no such bucket.
    """
    from rackwright.cli.tier import open_bucket

    if not place.startswith(S3):
        return None
    if stack is None:
        help = "Add --stack with the name of a stack"
        raise DeclarationError(Diagnostic("--stack", "a bucket needs the stack that declares it", help=help))
    return open_bucket(project.stack(stack), place.removeprefix(S3).partition("/")[0])


def _upload(bucket: "Bucket", path: Path) -> str:
    """Move the archive *path* into an archive of the bucket, and return its place there."""
    from rackwright.tiering import archive
    from rackwright.tiering.directory import LocalDirectory

    source, name = LocalDirectory(path.parent), path.name.partition(".tar")[0]
    archive.move(bucket, archive.plan(bucket, name, source), source, True, None, project.notify)
    return bucket.where(name)


@contextmanager
def _local(place: str, stack: str | None) -> Iterator[Path]:
    """Yield the path of the archive *place*, which is downloaded first if it is in a bucket.

    Raises:
        ChangeRefused: the bucket has no such archive.
        ArchiveDamaged: an object has another content than its manifest says.
    """
    from rackwright.tiering import archive
    from rackwright.tiering.directory import LocalDirectory

    bucket = _bucket(place, stack)
    if bucket is None:
        yield Path(place)
        return
    manifest = archive.load_manifest(bucket, place.removeprefix(S3).partition("/")[2])
    if len(manifest.files) != 1:
        problem, help = f"it has {len(manifest.files)} files", "Use `rackwright tier restore`"
        raise ChangeRefused(Diagnostic(place, problem, "one file, as `rackwright backup` writes it", help))
    with scratch.directory() as temporary:
        archive.restore(bucket, manifest, LocalDirectory(temporary), project.notify)
        yield temporary / manifest.files[0].path


def _print_result(verified: "VerifiedCheckpoint", as_json: bool, place: str) -> None:
    """Print what was verified; *place* is that of its archive if it is not the path of *verified*."""
    path = place or str(verified.path)
    if as_json:
        data: CheckpointData = {
            "path": path,
            "step": verified.step,
            "files": verified.files,
            "bytes": verified.bytes,
        }
        terminal.show_json(data)
    else:
        terminal.show(f"{path}: step {verified.step}, {verified.files} files, {verified.bytes} bytes, read back intact")

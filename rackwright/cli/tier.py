"""The commands that move directories between a tier and a bucket."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rackwright import terminal
from rackwright.cli import project
from rackwright.cli.arguments import AsJson, StackName
from rackwright.errors import DeclarationError, Diagnostic, quantity

if TYPE_CHECKING:
    from rackwright.cli.json_tier_types import ArchiveData, ArchiveVerification, TransferPlan
    from rackwright.stack import Stack
    from rackwright.tiering.archive import MovePlan
    from rackwright.tiering.bucket import Bucket
    from rackwright.tiering.directory import Directory
    from rackwright.tiering.manifest import Manifest

app = typer.Typer(no_args_is_help=True, help="Directories in buckets: the cold tier.")
DirectoryName = Annotated[
    str | None,
    typer.Argument(
        metavar="[HOST:]DIR",
        help="A directory of this computer, or of a host of the stack; by default, those of the placement.",
    ),
]
TargetBucket = Annotated[str | None, typer.Argument(metavar="BUCKET", help="A bucket of the stack's fleet.")]
BucketName = Annotated[str, typer.Argument(metavar="BUCKET", help="A bucket of the stack's fleet.")]
ArchiveName = Annotated[str, typer.Argument(metavar="ARCHIVE", help="Name of an archive in the bucket.")]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the archive; by default that of the directory.")
]
Bandwidth = Annotated[str | None, typer.Option(metavar="SIZE", help="Bytes per second at most, such as 100MiB.")]


@app.command("plan")
def plan_(
    stack: StackName,
    directory: DirectoryName = None,
    bucket: TargetBucket = None,
    name: NameOption = None,
    as_json: AsJson = False,
) -> None:
    """Print what `tier move` would upload. Reads only.

    Without a directory, the command prints what the placement of the fleet would move, and why the rest stays.

    Exit status: 0 it was printed, 2 the move would be refused, 3 the store or the host was not reached.
    """
    from rackwright.cli import placement
    from rackwright.tiering import archive

    loaded = project.stack(stack)
    if directory is None:
        placement.show_plan(loaded, as_json)
        return
    opened = open_bucket(loaded, _require_bucket(bucket))
    with _directory(loaded, directory) as source:
        planned = archive.plan(opened, name or _name(directory), source)
    note_listing(loaded, opened.name)
    _show_plan(opened, planned, as_json)


@app.command()
def move(
    stack: StackName,
    directory: DirectoryName = None,
    bucket: TargetBucket = None,
    name: NameOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the directory.")] = False,
    bandwidth: Bandwidth = None,
    yes: Annotated[bool, typer.Option("--yes", help="Move without a question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Upload a directory into a bucket, read back every file, then delete the directory.

    An interrupted move continues with the missing files. Nothing is deleted before all files were read back. A
    directory of a host goes from the host to the store directly. Without a directory, the command follows the placement
    of the fleet, as `tier plan` prints it.

    Exit status: 0 moved, 1 a file was read back with another content, 2 refused, 3 the store or the host was not
    reached, 4 failed.
    """
    from rackwright.cli import placement, recording
    from rackwright.tiering import archive

    limit, loaded = _bytes_per_second(bandwidth), project.stack(stack)
    if directory is None:
        placement.follow(loaded, limit, yes, as_json)
        return
    opened = open_bucket(loaded, _require_bucket(bucket))
    with _directory(loaded, directory) as source:
        planned = archive.plan(opened, name or _name(directory), source)
        note_listing(loaded, opened.name)
        if not keep:
            require_durable(loaded, opened.name)
        if not as_json:
            _show_plan(opened, planned, as_json)
            if not keep:
                terminal.show(f"then delete {quantity(len(planned.sources), 'file')} of {directory}")
        if not yes:
            terminal.require("Run it on a terminal, or pass --yes to move without a question")
            if not terminal.confirm(f"Move it on {project.format_target(loaded)}?"):
                project.notify("nothing was moved")
                raise typer.Exit(2)
        losses = () if keep else (f"{directory}: {quantity(len(planned.sources), 'file')}, after they were read back",)
        change = recording.change(opened.where(planned.manifest.name), "move", destroys=losses)
        with recording.record("tier move", stack, planned=[change]) as operation:
            archive.move(opened, planned, source, keep, limit, project.notify)
            operation.complete("", opened.where(planned.manifest.name), "done")
    _show_archive(opened, planned.manifest, directory, as_json)


@app.command()
def restore(
    stack: StackName,
    bucket: BucketName,
    archive_name: ArchiveName,
    to: Annotated[str, typer.Option(metavar="[HOST:]DIR", help="Directory to write, of this computer or of a host.")],
    bandwidth: Bandwidth = None,
    as_json: AsJson = False,
) -> None:
    """Download an archive into a directory, and compare the digest of every file. Overwrites nothing.

    A host gets the files from the store directly; they belong to root.

    Exit status: 0 restored, 1 a file is damaged, 2 refused, 3 the store or the host was not reached, 4 failed.
    """
    from rackwright.tiering import archive

    limit, loaded = _bytes_per_second(bandwidth), project.stack(stack)
    opened = open_bucket(loaded, bucket)
    manifest = archive.load_manifest(opened, archive_name)
    with _directory(loaded, to) as target:
        archive.restore(opened, manifest, target, project.notify, limit)
    _show_archive(opened, manifest, to, as_json)


@app.command()
def verify(
    stack: StackName,
    bucket: BucketName,
    archives: Annotated[
        list[str] | None, typer.Argument(metavar="[ARCHIVE]...", help="Names of archives; all by default.")
    ] = None,
    gone: Annotated[
        list[str] | None,
        typer.Option("--gone", metavar="ARCHIVE", help="Name of an archive that was removed on purpose."),
    ] = None,
    bandwidth: Bandwidth = None,
    as_json: AsJson = False,
) -> None:
    """Read every file of archives in a bucket, and compare its digest. Writes nothing.

    In a bucket with retention, an object that is retained for less time than declared is damage too. Without names, so
    is an archive that the operations log names and the bucket does not have.

    Exit status: 0 every byte is intact, 1 a file is damaged, 2 there is no such archive, 3 the store was not reached.
    """
    from rackwright.cli import recording
    from rackwright.tiering import archive, retention
    from rackwright.tiering.manifest import ArchiveDamaged

    limit, loaded = _bytes_per_second(bandwidth), project.stack(stack)
    opened = open_bucket(loaded, bucket)
    declared = loaded.fleet.buckets[bucket].retention
    damage: list[Diagnostic] = []
    intact: list[ArchiveData] = []
    names = archives or archive.list_archives(opened)
    if not archives:
        damage += archive.lost_archives(opened, names, recording.moved_archives(stack, bucket) - {*(gone or ())})
    for name in names:
        try:
            manifest = archive.load_manifest(opened, name)
            archive.verify(opened, manifest, project.notify, limit)
        except ArchiveDamaged as error:
            damage += error.diagnostics
            continue
        if declared and (shorter := retention.find_shorter(opened, manifest, declared)):
            damage += shorter
            continue
        intact.append(_archive_data(opened, manifest))
        if not as_json:
            terminal.show(f"{opened.where(name)}: {quantity(len(manifest.files), 'file')}, intact")
    if as_json:
        verification: ArchiveVerification = {
            "intact": intact,
            "damage": [{"object": each.where, "problem": each.problem} for each in damage],
        }
        terminal.show_json(verification)
        raise typer.Exit(1 if damage else 0)
    if damage:
        raise ArchiveDamaged(*damage)


def _show_plan(bucket: "Bucket", planned: "MovePlan", as_json: bool) -> None:
    if not as_json:
        terminal.show("\n".join(planned.lines(bucket)))
        return
    data: TransferPlan = {
        "archive": bucket.where(planned.manifest.name),
        "files": len(planned.sources),
        "bytes": planned.manifest.size,
        "upload_files": len(planned.uploads),
        "upload_bytes": planned.upload_bytes,
        "complete": planned.is_complete,
    }
    terminal.show_json(data)


def _show_archive(bucket: "Bucket", manifest: "Manifest", directory: str, as_json: bool) -> None:
    if as_json:
        terminal.show_json(_archive_data(bucket, manifest))
    else:
        files = quantity(len(manifest.files), "file")
        terminal.show(f"{bucket.where(manifest.name)}: {files}, as in {directory}, read back intact")


def _archive_data(bucket: "Bucket", manifest: "Manifest") -> "ArchiveData":
    return {"archive": bucket.where(manifest.name), "files": len(manifest.files), "bytes": manifest.size}


def _bytes_per_second(text: str | None) -> int | None:
    """Return the bound of a transfer.

    Raises:
        DeclarationError: *text* is no size.
    """
    return None if text is None else parse_bytes(text, "--bandwidth")


def parse_bytes(text: str, option: str) -> int:
    """Return the bytes of the size *text*.

    Raises:
        DeclarationError: *text* is no size.
    """
    from rackwright.schema.problem import Problem
    from rackwright.schema.units import parse_size

    try:
        return parse_size(text)
    except Problem as problem:
        raise DeclarationError(problem.at(option)) from None


def _require_bucket(bucket: str | None) -> str:
    """Return *bucket*.

    Raises:
        DeclarationError: it is missing.
    """
    if bucket is None:
        problem, help = "got a directory without a bucket", "Add the name of a bucket"
        raise DeclarationError(Diagnostic("BUCKET", problem, "a bucket of the fleet", help))
    return bucket


def _name(directory: str) -> str:
    """Return the name of the last folder of *directory*, of this computer or a host."""
    host, _, path = directory.rpartition(":")
    return Path(path).name if host else Path(directory).resolve().name


@contextlib.contextmanager
def _directory(stack: "Stack", text: str) -> Iterator["Directory"]:
    """Yield the directory ``HOST:DIR`` or ``DIR``.

    Raises:
        DeclarationError: the stack has no such host.
    """
    from rackwright.tiering.directory import LocalDirectory

    host, colon, path = text.partition(":")
    if not colon or "/" in host:
        yield LocalDirectory(Path(text))
        return
    from rackwright.tiering.remote import HostDirectory

    if wrong := [*stack.unknown_host_errors(host)]:
        raise DeclarationError(*wrong)
    if not path.startswith("/"):
        problem, help = f"got {path!r}", "Write the whole path, which begins with /"
        raise DeclarationError(Diagnostic(f"{host}:DIR", problem, "an absolute path on the host", help))
    with project.connect_hosts(stack) as hosts:
        yield HostDirectory(host, path.rstrip("/") or "/", lambda: hosts.connection(host))


def note_listing(stack: "Stack", bucket: str) -> None:
    """Print a notice if programs that compare listings delete objects of the bucket's store."""
    store = stack.fleet.buckets[bucket].store
    if stack.fleet.object_stores[store].order == "by_folder":
        text = "lists keys by folder, not by byte: `aws s3 sync --delete` deletes objects that both sides have"
        project.notify(f"the store {store} {text}")


def require_durable(stack: "Stack", bucket: str) -> None:
    """Return if the hosts of the bucket's store write to their drives before they acknowledge an object.

    A store without hosts of the fleet is another party's, whose acknowledgement counts.

    Raises:
        ChangeRefused: a host keeps acknowledged writes in memory for a while.
        EndpointUnreachable: a host does not show how it writes.
    """
    from rackwright.tiering import durable

    store = stack.fleet.buckets[bucket].store
    if not (names := stack.fleet.object_stores[store].hosts):
        project.notify(f"the store {store} has no host of this fleet: whether it survives a power cut is not known")
        return
    with project.connect_hosts(stack) as hosts:
        durable.require_durable(store, names, hosts.facts, stack.name)


def open_bucket(stack: "Stack", bucket: str) -> "Bucket":
    """Return the bucket of the stack's fleet, with the account that manages it.

    Raises:
        DeclarationError: the fleet has no such bucket.
    """
    from rackwright.endpoints import s3
    from rackwright.schema.problem import hint
    from rackwright.tiering.bucket import Bucket

    loaded = project.secrets(stack)
    buckets = loaded.fleet.buckets
    if bucket not in buckets:
        expected = f"one of {', '.join(buckets) or 'none'}"
        help = hint(bucket, buckets, "Declare it under buckets")
        raise DeclarationError(Diagnostic(f"stack {stack.name}", f"the fleet has no bucket {bucket}", expected, help))
    store = buckets[bucket].store
    if store in loaded.store_hosts:
        project.require_twin(loaded)
    client = s3.connect(loaded, store)
    return Bucket(bucket, client.signed, loaded.fleet.object_stores[store].ca, client.signing_key)

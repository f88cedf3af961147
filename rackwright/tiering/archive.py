"""The move of a directory into a bucket and back. Nothing is deleted before its copy was read back."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rackwright.errors import ChangeRefused, Diagnostic, StepFailed, quantity
from rackwright.foreign import InvalidData
from rackwright.progress import Progress
from rackwright.schema.units import format_size
from rackwright.tiering import manifest as manifests
from rackwright.tiering import names
from rackwright.tiering.bucket import DIGEST, Bucket, store_errors
from rackwright.tiering.directory import Directory, read_back
from rackwright.tiering.manifest import ArchiveDamaged, ArchivedFile, Manifest, SourceFile
from rackwright.tiering.meter import Meter


@dataclass(frozen=True)
class MovePlan:
    """The upload of a directory."""

    manifest: Manifest
    uploads: tuple[SourceFile, ...]
    """Files that the bucket does not have yet."""
    sources: tuple[SourceFile, ...]
    """All files."""
    is_complete: bool
    """Whether the bucket has this very manifest already."""

    @property
    def upload_bytes(self) -> int:
        return sum(source.file.bytes for source in self.uploads)

    def lines(self, bucket: Bucket) -> Iterator[str]:
        """Yield the plan as text."""
        yield f"archive {self.manifest.name}: {quantity(len(self.sources), 'file')}, {format_size(self.manifest.size)}"
        uploaded = f"{quantity(len(self.uploads), 'file')}, {format_size(self.upload_bytes)}"
        yield f"upload to {bucket.where(self.manifest.name)}: {uploaded}"
        yield f"already there: {quantity(len(self.sources) - len(self.uploads), 'file')}"


def plan(bucket: Bucket, name: str, directory: Directory) -> MovePlan:
    """Return the plan of the move of *directory* into the archive *name*; reads only.

    Raises:
        ChangeRefused: the bucket has another archive of that name, or the directory cannot be archived.
    """
    manifests.check_name(name)
    sources = directory.files()
    if not sources:
        raise ChangeRefused(Diagnostic(str(directory), "the directory has no file", help="Name another directory"))
    names.check_keys(str(directory), bucket.key(name, ""), (source.file.path for source in sources))
    made = Manifest(name=name, files=tuple(source.file for source in sources))
    if internal := [*manifests.internal_paths(made)]:
        problem = f"{quantity(len(internal), 'path')} may name a file of the store itself, the first is {internal[0]}"
        help = "Rename the folder or the file, or give the archive another --name"
        raise ChangeRefused(Diagnostic(str(directory), problem, manifests.PATHS_EXPECTED, help))
    if (size := len(made.render())) > manifests.BYTES_MAX:
        problem = f"the list of its {len(sources)} files would have {format_size(size)}"
        expected = f"at most {format_size(manifests.BYTES_MAX)}"
        raise ChangeRefused(Diagnostic(str(directory), problem, expected, "Move its folders one by one"))
    with store_errors(bucket):
        present = find_manifest(bucket, name)
        if present is not None and present.without_canary != made:
            found = {file.path: file for file in made.files}
            changed = [
                *manifests.differences(present.files, found),
                *manifests.differences(made.files, _by_path(present)),
            ]
            problem = f"the archive exists with another content: {'; '.join([*dict.fromkeys(changed)][:5])}"
            help = "Give this one another --name"
            note = "an archive is never overwritten"
            raise ChangeRefused(Diagnostic(bucket.where(name), problem, help=help, note=note))
        objects = _objects(bucket, name)
        uploads = tuple(each for each in sources if not _is_uploaded(bucket, name, each.file, objects))
    return MovePlan(made, uploads, sources, present is not None)


def move(
    bucket: Bucket,
    planned: MovePlan,
    directory: Directory,
    keep: bool,
    bytes_per_second: int | None,
    progress: Progress,
) -> None:
    """Upload *planned*, read back every object, write the manifest, and then delete the directory's files.

    An interrupted move continues with the files that are missing in the bucket.

    Args:
        keep: Keep the directory.
        bytes_per_second: Bound of the transfer; None for none.

    Raises:
        ArchiveDamaged: an object was read back with another content; nothing was deleted.
        StepFailed: the bucket refused a request, or a file changed during the move; nothing was deleted.
    """
    manifest, name = planned.manifest, planned.manifest.name
    with store_errors(bucket):
        uploading = Meter(progress, "uploaded", planned.upload_bytes, bytes_per_second)
        for number, source in enumerate(planned.uploads, start=1):
            progress(f"upload {number} of {len(planned.uploads)}: {source.file.path}, {format_size(source.file.bytes)}")
            directory.upload(bucket, name, source, uploading)
        progress(f"read back {quantity(len(manifest.files), 'file')}, {format_size(manifest.size)}")
        reading = Meter(progress, "read back", manifest.size, bytes_per_second)
        _compare(bucket, manifest, directory.read_back(bucket, name, manifest.files, reading))
        if not planned.is_complete:
            bucket.client.put_object(Bucket=bucket.name, Key=bucket.manifest_key(name), Body=manifest.render())
        found = find_manifest(bucket, name)
        if found is None or found.without_canary != manifest:
            problem = "the manifest was read back with another content"
            raise ArchiveDamaged(Diagnostic(bucket.where(name), problem, help="Run the same command again"))
    if keep:
        return
    if changed := directory.delete(planned.sources):
        problem = f"{quantity(len(changed), 'file')} changed during the move, the first is {changed[0]}"
        help = "Stop the program that writes there, and move the directory under another --name"
        raise StepFailed(Diagnostic(str(directory), problem, help=help, note="nothing was deleted"))


def verify(bucket: Bucket, manifest: Manifest, progress: Progress, bytes_per_second: int | None = None) -> None:
    """Read every object of *manifest*, and compare its digest.

    Raises:
        ArchiveDamaged: some objects are missing, or have another content.
    """
    with store_errors(bucket):
        progress(f"read back {quantity(len(manifest.files), 'file')}, {format_size(manifest.size)}")
        meter = Meter(progress, "read back", manifest.size, bytes_per_second)
        _compare(bucket, manifest, read_back(bucket, manifest.name, manifest.files, meter))


def restore(
    bucket: Bucket, manifest: Manifest, to: Directory, progress: Progress, bytes_per_second: int | None = None
) -> None:
    """Download *manifest* into the directory *to*. Files that are there with the right content stay.

    Raises:
        ChangeRefused: a file is there with another content; nothing was written.
        ArchiveDamaged: an object is missing or has another content; that file was not written.
        StepFailed: a file cannot be written.
    """
    present = {each.file.path: each.file for each in to.files()}
    wanted = _by_path(manifest)
    mine = [wanted[path] for path in present if path in wanted]
    if wrong := [*manifests.differences(mine, present)]:
        help = "Name another directory"
        raise ChangeRefused(*(Diagnostic(str(to), text, "the content of the archive", help) for text in wrong))
    missing = [file for file in manifest.files if file.path not in present]
    size = sum(file.bytes for file in missing)
    progress(f"download {quantity(len(missing), 'file')}, {format_size(size)}")
    with store_errors(bucket):
        meter = Meter(progress, "downloaded", size, bytes_per_second)
        try:
            came = to.download(bucket, manifest.name, missing, meter) if missing else {}
        except OSError as error:
            help = "Make room, and run the same command again; it continues with the missing files"
            raise StepFailed(Diagnostic(str(to), f"a file cannot be written: {error}", help=help)) from error
    _compare(bucket, manifest, {**{file.path: file for file in mine}, **came})


def load_manifest(bucket: Bucket, name: str) -> Manifest:
    """Return the manifest of the archive *name*.

    Raises:
        ChangeRefused: the bucket has no such archive.
    """
    manifests.check_name(name)
    with store_errors(bucket):
        found = find_manifest(bucket, name)
        present = list_archives(bucket) if found is None else ()
    if found is None:
        expected = f"one of {', '.join(present) or 'none'}"
        raise ChangeRefused(
            Diagnostic(bucket.where(name), "the bucket has no such archive", expected, "Correct the name")
        )
    return found


def list_archives(bucket: Bucket) -> tuple[str, ...]:
    """Return the names of all complete archives in *bucket*, those with a damaged manifest among them.

    Raises:
        EndpointUnreachable: the store does not answer, or its clock is wrong.
        StepFailed: the store refuses a request.
    """
    with store_errors(bucket):
        pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Delimiter="/")
        found = [prefix["Prefix"].rstrip("/") for page in pages for prefix in page.get("CommonPrefixes", ())]
        return tuple(name for name in sorted(found) if _has_manifest(bucket, name))


def lost_archives(bucket: Bucket, present: Sequence[str], moved: Collection[str]) -> list[Diagnostic]:
    """Return a diagnostic for each archive of *moved* that is not among those *present*."""
    problem = "the operations log names this archive, and the bucket does not have it"
    help = "Restore it from another copy, or pass --gone with its name if it was removed on purpose"
    return [
        Diagnostic(bucket.where(name), problem, "the archive with its manifest", help)
        for name in sorted({*moved} - {*present})
    ]


def find_manifest(bucket: Bucket, name: str) -> Manifest | None:
    """Return the manifest of the archive *name*; None if there is none."""
    key = bucket.manifest_key(name)
    try:
        content = bucket.read(key, manifests.BYTES_MAX)
    except InvalidData as error:
        raise manifests.damage(bucket.where(key), f"the object is no manifest: {error}") from None
    return None if content is None else manifests.parse(content, bucket.where(key))


def _has_manifest(bucket: Bucket, name: str) -> bool:
    try:
        return find_manifest(bucket, name) is not None
    except (ArchiveDamaged, ChangeRefused):  # its own reader says why, and other archives are listed
        return True


def note_canary(bucket: Bucket, manifest: Manifest, sha256: str) -> None:
    """Write *manifest* again, with the digest of the archive's canary; its absence is damage from then on."""
    noted = manifest.model_copy(update={"canary": sha256})
    bucket.client.put_object(Bucket=bucket.name, Key=bucket.manifest_key(manifest.name), Body=noted.render())


def _by_path(manifest: Manifest) -> Mapping[str, ArchivedFile]:
    return {file.path: file for file in manifest.files}


def _objects(bucket: Bucket, name: str) -> Mapping[str, int]:
    """Return the sizes of the archive's objects, by key."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=bucket.key(name, ""))
    return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}


def _is_uploaded(bucket: Bucket, name: str, file: ArchivedFile, objects: Mapping[str, int]) -> bool:
    """Return whether an earlier move has uploaded *file*; the move reads it back in any case."""
    key = bucket.key(name, file.path)
    if objects.get(key) != file.bytes:
        return False
    head = bucket.client.head_object(Bucket=bucket.name, Key=key)
    return bool(head.get("Metadata", {}).get(DIGEST) == file.sha256)


def _compare(bucket: Bucket, manifest: Manifest, actual: Mapping[str, ArchivedFile]) -> None:
    """Return if *actual* has the content of all files of *manifest*.

    Raises:
        ArchiveDamaged: some are missing, or have another content.
    """
    if wrong := [*manifests.differences(manifest.files, actual)]:
        raise ArchiveDamaged(*(_damage(bucket, manifest.name, text) for text in wrong))


def _damage(bucket: Bucket, name: str, text: str) -> Diagnostic:
    help = "Restore an earlier version of the object, or another copy of the archive"
    return Diagnostic(bucket.where(name), text, "the content in the manifest", help)

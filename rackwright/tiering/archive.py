"""The move of a directory into a bucket and back. Nothing is deleted before its copy was read back."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rackwright.errors import Diagnostic, EndpointUnreachable, Refused, StepFailed
from rackwright.files import fsync_directory, replacing
from rackwright.progress import Progress
from rackwright.schema.units import format_size
from rackwright.tiering import manifest as manifests
from rackwright.tiering.manifest import BLOCK_BYTES, ArchiveDamaged, ArchivedFile, Manifest, SourceFile

AT_ONCE = 8
PART_BYTES = 16 << 20
"""Size of the parts of an upload, of which several are under way at once."""
DIGEST = "sha256"
"""The key of an object's metadata with the digest of the file that was uploaded."""


@dataclass(frozen=True)
class Bucket:
    """A bucket with the client of the account that uses it."""

    name: str
    client: Any

    def key(self, archive: str, path: str) -> str:
        return f"{archive}/files/{path}"

    def manifest_key(self, archive: str) -> str:
        return f"{archive}/manifest.json"

    def where(self, key: str) -> str:
        return f"s3://{self.name}/{key}"


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

    def lines(self, bucket: Bucket) -> Iterator[str]:
        """Yield the plan as text."""
        uploaded = sum(source.file.bytes for source in self.uploads)
        yield f"archive {self.manifest.name}: {len(self.sources)} files, {format_size(self.manifest.size)}"
        yield f"upload to {bucket.where(self.manifest.name)}: {len(self.uploads)} files, {format_size(uploaded)}"
        yield f"already there: {len(self.sources) - len(self.uploads)} files"


def plan(bucket: Bucket, name: str, directory: Path) -> MovePlan:
    """Return the plan of the move of *directory* into the archive *name*; reads only.

    Raises:
        Refused: the bucket has another archive of that name, or the directory cannot be archived.
    """
    manifests.check_name(name)
    sources = manifests.scan(directory)
    made = Manifest(name=name, files=tuple(source.file for source in sources))
    with _errors(bucket):
        present = find_manifest(bucket, name)
        if present is not None and present != made:
            found = {file.path: file for file in made.files}
            changed = [
                *manifests.differences(present.files, found),
                *manifests.differences(made.files, _by_path(present)),
            ]
            problem = f"the archive exists with another content: {'; '.join([*dict.fromkeys(changed)][:5])}"
            help = "Give this one another --name"
            note = "an archive is never overwritten"
            raise Refused(Diagnostic(bucket.where(name), problem, help=help, note=note))
        objects = _objects(bucket, name)
        uploads = tuple(each for each in sources if not _is_uploaded(bucket, name, each.file, objects))
    return MovePlan(made, uploads, sources, present is not None)


def move(
    bucket: Bucket, planned: MovePlan, directory: Path, keep: bool, bytes_per_second: int | None, progress: Progress
) -> None:
    """Upload *planned*, read back every object, write the manifest, and then delete the directory's files.

    An interrupted move continues with the files that are missing in the bucket.

    Args:
        keep: Keep the directory.
        bytes_per_second: Bound of the upload; None for none.

    Raises:
        ArchiveDamaged: an object was read back with another content; nothing was deleted.
        StepFailed: the bucket refused a request, or a file changed during the move; nothing was deleted.
    """
    name = planned.manifest.name
    with _errors(bucket):
        for number, source in enumerate(planned.uploads, start=1):
            progress(f"upload {number} of {len(planned.uploads)}: {source.file.path}, {format_size(source.file.bytes)}")
            _upload(bucket, name, source, bytes_per_second)
        verify(bucket, planned.manifest, progress)
        if not planned.is_complete:
            body = planned.manifest.render()
            bucket.client.put_object(Bucket=bucket.name, Key=bucket.manifest_key(name), Body=body)
        if find_manifest(bucket, name) != planned.manifest:
            problem = "the manifest was read back with another content"
            raise ArchiveDamaged(Diagnostic(bucket.where(name), problem, help="Run the same command again"))
    if changed := [source.file.path for source in planned.sources if not source.is_unchanged]:
        problem = f"{len(changed)} files changed during the move, the first is {changed[0]}"
        help = "Stop the program that writes there, and move the directory under another --name"
        raise StepFailed(Diagnostic(str(directory), problem, help=help, note="nothing was deleted"))
    if not keep:
        _delete(planned.sources, directory)


def verify(bucket: Bucket, manifest: Manifest, progress: Progress) -> None:
    """Read every object of *manifest*, and compare its digest.

    Raises:
        ArchiveDamaged: some objects are missing, or have another content.
    """
    with _errors(bucket), ThreadPoolExecutor(AT_ONCE) as pool:
        progress(f"read back {len(manifest.files)} files, {format_size(manifest.size)}")
        found = pool.map(lambda file: _read_back(bucket, manifest.name, file), manifest.files)
        actual = {file.path: file for file in found if file is not None}
    if wrong := [*manifests.differences(manifest.files, actual)]:
        raise ArchiveDamaged(*(_damage(bucket, manifest.name, text) for text in wrong))


def restore(bucket: Bucket, manifest: Manifest, to: Path, progress: Progress) -> None:
    """Download *manifest* into the directory *to*. Files that are there with the right content stay.

    Raises:
        Refused: a file is there with another content; nothing was written.
        ArchiveDamaged: an object is missing or has another content; that file was not written.
    """
    present = {each.file.path: each.file for each in manifests.scan(to)} if _has_files(to) else {}
    wanted = {file.path: file for file in manifest.files}
    mine = [wanted[path] for path in present if path in wanted]
    if wrong := [*manifests.differences(mine, present)]:
        help = "Name another directory"
        raise Refused(*(Diagnostic(str(to), text, "the content of the archive", help) for text in wrong))
    with _errors(bucket), ThreadPoolExecutor(AT_ONCE) as pool:
        missing = [file for file in manifest.files if file.path not in present]
        progress(f"download {len(missing)} files, {format_size(sum(file.bytes for file in missing))}")
        damaged = [text for text in pool.map(lambda file: _download(bucket, manifest.name, file, to), missing) if text]
    if damaged:
        raise ArchiveDamaged(*(_damage(bucket, manifest.name, text) for text in damaged))


def load_manifest(bucket: Bucket, name: str) -> Manifest:
    """Return the manifest of the archive *name*.

    Raises:
        Refused: the bucket has no such archive.
    """
    manifests.check_name(name)
    with _errors(bucket):
        found = find_manifest(bucket, name)
        names = list_archives(bucket) if found is None else ()
    if found is None:
        expected = f"one of {', '.join(names) or 'none'}"
        raise Refused(Diagnostic(bucket.where(name), "the bucket has no such archive", expected, "Correct the name"))
    return found


def list_archives(bucket: Bucket) -> tuple[str, ...]:
    """Return the names of all complete archives in *bucket*."""
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Delimiter="/")
    names = [prefix["Prefix"].rstrip("/") for page in pages for prefix in page.get("CommonPrefixes", ())]
    return tuple(name for name in sorted(names) if find_manifest(bucket, name) is not None)


def find_manifest(bucket: Bucket, name: str) -> Manifest | None:
    """Return the manifest of the archive *name*; None if there is none."""
    key = bucket.manifest_key(name)
    body = _body(bucket, key)
    return None if body is None else manifests.parse(body.read(), bucket.where(key))


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


def _upload(bucket: Bucket, name: str, source: SourceFile, bytes_per_second: int | None) -> None:
    from s3transfer.manager import TransferConfig, TransferManager

    config = TransferConfig(
        multipart_threshold=PART_BYTES,
        multipart_chunksize=PART_BYTES,
        max_request_concurrency=AT_ONCE,
        max_bandwidth=bytes_per_second,
    )
    metadata = {"Metadata": {DIGEST: source.file.sha256}}
    with TransferManager(bucket.client, config) as manager:
        key = bucket.key(name, source.file.path)
        manager.upload(str(source.place), bucket.name, key, extra_args=metadata).result()


def _body(bucket: Bucket, key: str) -> Any:
    """Return the stream of an object; None if there is none."""
    try:
        return bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"]
    except bucket.client.exceptions.NoSuchKey:
        return None


def _read_back(bucket: Bucket, name: str, file: ArchivedFile) -> ArchivedFile | None:
    """Return *file* with the size and digest of its object; None if there is no object."""
    body = _body(bucket, bucket.key(name, file.path))
    if body is None:
        return None
    digest, size = hashlib.sha256(), 0
    for block in body.iter_chunks(BLOCK_BYTES):
        digest.update(block)
        size += len(block)
    return file.model_copy(update={"bytes": size, "sha256": digest.hexdigest()})


def _download(bucket: Bucket, name: str, file: ArchivedFile, to: Path) -> str:
    """Write *file* below *to*, whole or not at all; return the damage of its object, empty for none."""
    body = _body(bucket, bucket.key(name, file.path))
    if body is None:
        return f"{file.path}: missing"
    place, digest, size = to / file.path, hashlib.sha256(), 0
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(place, file.mode) as target:
            for block in body.iter_chunks(BLOCK_BYTES):
                digest.update(block)
                size += len(block)
                target.write(block)
            if digest.hexdigest() != file.sha256:
                raise _WrongContent
    except _WrongContent:
        return f"{file.path}: {size} bytes with another content"
    return ""


class _WrongContent(Exception):
    """A download has another content than the manifest says."""


def _delete(sources: Sequence[SourceFile], directory: Path) -> None:
    """Delete the files of *sources*, and the directories that are empty then."""
    for source in sources:
        source.place.unlink()
    for folder in sorted((place for place in directory.rglob("*") if place.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    if not any(directory.iterdir()):
        directory.rmdir()
    fsync_directory(directory.parent)


def _has_files(directory: Path) -> bool:
    return directory.is_dir() and any(place.is_file() for place in directory.rglob("*"))


def _damage(bucket: Bucket, name: str, text: str) -> Diagnostic:
    help = "Restore an earlier version of the object, or another copy of the archive"
    return Diagnostic(bucket.where(name), text, "the content in the manifest", help)


@contextmanager
def _errors(bucket: Bucket) -> Iterator[None]:
    """Turn errors of botocore into errors of ours."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        problem = f"the store refuses {error.operation_name}: {answer.get('Code')} {answer.get('Message')}"
        help = "Check the rights of the account, and the free space of the store"
        raise StepFailed(Diagnostic(bucket.where(""), problem, help=help, note="nothing was deleted")) from error
    except BotoCoreError as error:
        problem = f"no answer from the store: {error}"
        help = "Run the same command again; it continues with the missing files"
        raise EndpointUnreachable(Diagnostic(bucket.where(""), problem, help=help)) from error

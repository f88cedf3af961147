"""The speed of tiers and buckets: a file of random content is written, read, and removed."""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rackwright.errors import Diagnostic, StepFailed
from rackwright.progress import Progress
from rackwright.schema.units import format_size
from rackwright.tiering.bucket import Bucket, store_errors
from rackwright.tiering.host_lines import line_refused
from rackwright.tiering.manifest import ArchivedFile, SourceFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.remote import HostDirectory

PREFIX = ".rackwright-bench-"
FILE = "random.bin"


@dataclass(frozen=True)
class Speed:
    """The speed of one place as a host sees it."""

    place: str
    """A tier as ``HOST:MOUNT``, or a bucket as ``s3://NAME`` with the host that used it."""
    bytes: int
    """Size of the file."""
    write_seconds: float
    read_seconds: float

    @property
    def text(self) -> str:
        write, read = (format_size(self.bytes / seconds) for seconds in (self.write_seconds, self.read_seconds))
        return f"{self.place}: {write} per second written, {read} per second read"


def measure(
    directory: HostDirectory,
    buckets: Sequence[Bucket],
    size: int,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Speed]:
    """Yield the speed of the tier that is mounted at *directory*, and of *buckets* as its host reaches them.

    Everything that the measurement wrote is removed, also after a failure.

    Args:
        size: Bytes of the file, of which the tier needs twice as many free.

    Raises:
        StepFailed: the tier has no room, or the store refuses a request.
    """
    name = PREFIX + secrets.token_hex(4)
    scratch = HostDirectory(directory.host, f"{directory.path.rstrip('/')}/{name}", directory.connect)
    try:
        progress(f"{directory}: write and read {format_size(size)}")
        yield Speed(str(directory), size, *scratch.measure(FILE, size))
        sources = scratch.files() if buckets else ()
        if buckets and len(sources) != 1:
            raise line_refused(str(scratch), f"{len(sources)} files are there, and one was written")
        for bucket, source in zip(buckets, sources * len(buckets), strict=True):
            progress(f"{bucket.where('')}: write and read {format_size(size)} from {directory.host}")
            yield _bucket_speed(bucket, name, scratch, source, clock)
    finally:
        if written := scratch.files():
            scratch.delete(written)


def _bucket_speed(
    bucket: Bucket, name: str, scratch: HostDirectory, source: SourceFile, clock: Callable[[], float]
) -> Speed:
    size, quiet = source.file.bytes, Meter(lambda text: None, "", source.file.bytes)
    with store_errors(bucket):
        try:
            began = clock()
            scratch.upload(bucket, name, source, quiet)
            uploaded = clock()
            found = scratch.read_back(bucket, name, [source.file], quiet)
            ended = clock()
        finally:
            _remove(bucket, bucket.key(name, source.file.path))
    _require_same(bucket, found.get(source.file.path), source.file)
    return Speed(f"{bucket.where('').rstrip('/')} from {scratch.host}", size, uploaded - began, ended - uploaded)


def _require_same(bucket: Bucket, found: ArchivedFile | None, wanted: ArchivedFile) -> None:
    if found != wanted:
        problem = "the object was read back with another content"
        raise StepFailed(Diagnostic(bucket.where(""), problem, help="Look for errors of the store's drives"))


def _remove(bucket: Bucket, key: str) -> None:
    """Delete all versions of the object *key*."""
    listed = bucket.client.list_object_versions(Bucket=bucket.name, Prefix=key)
    for version in (*listed.get("Versions", ()), *listed.get("DeleteMarkers", ())):
        if version["Key"] == key:
            bucket.client.delete_object(Bucket=bucket.name, Key=key, VersionId=version["VersionId"])

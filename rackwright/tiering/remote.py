"""A directory of a host: its program transfers the files by addresses that this computer signs."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as resources
from typing import Any

from pydantic import ValidationError

from rackwright.errors import ChangeRefused, Diagnostic, StepFailed
from rackwright.facts import probe
from rackwright.foreign import InvalidData, parse_object
from rackwright.hosts.transport import Connection
from rackwright.tiering.bucket import DIGEST, Bucket
from rackwright.tiering.directory import PART_BYTES, not_a_file
from rackwright.tiering.host_lines import (
    BYTES_MAX,
    TEXT_LONGEST,
    ChangedFiles,
    Failure,
    ForeignName,
    ItemLine,
    Measurement,
    Other,
    Part,
    Result,
    Usage,
    line_refused,
    only_line,
    read_line,
)
from rackwright.tiering.manifest import ArchivedFile, SourceFile
from rackwright.tiering.meter import Meter
from rackwright.tiering.names import not_utf_8
from rackwright.tiering.placement import Item, Listing

PACKAGE = "rackwright.tiering.onhost"
PROGRAM = ("tree", "transfer", "speed", "placing")
"""Modules of the program; the last one runs."""
LINE_BYTES = 64 << 10
"""Maximum length of a line that the program on the host prints."""
PARTS_MAX = 10_000
"""Maximum number of parts of an upload. Source: the limits of Amazon S3, multipart upload."""
SIGNED_SECONDS = 24 * 3600
"""Seconds for which an address is valid."""
LONGEST_SECONDS = 7 * 24 * 3600
"""Seconds after which a transfer is given up."""


@dataclass(frozen=True)
class HostDirectory:
    """A directory of a host, which reaches the store by itself and gets no key of it."""

    host: str
    path: str
    connect: Callable[[], Connection]

    def __str__(self) -> str:
        return f"{self.host}:{self.path}"

    def files(self) -> tuple[SourceFile, ...]:
        if self._has_no_directory():
            return ()
        lines = list(self._run(do="scan"))
        if others := [read_line(Other, line, str(self)) for line in lines if "other" in line]:
            raise ChangeRefused(*(not_a_file(f"{self}/{each.other}", each.link) for each in others))
        if unnamed := [read_line(ForeignName, line, str(self)) for line in lines if "unnamed" in line]:
            raise not_utf_8(str(self), [each.unnamed for each in unnamed])
        return tuple(self._source(line["file"]) for line in lines if "file" in line)

    def upload(self, bucket: Bucket, archive: str, source: SourceFile, meter: Meter) -> None:
        file, target = source.file, {"Bucket": bucket.name, "Key": bucket.key(archive, source.file.path)}
        metadata = {DIGEST: file.sha256}
        if not file.bytes:
            bucket.client.put_object(**target, Body=b"", Metadata=metadata)
            return
        target["UploadId"] = bucket.client.create_multipart_upload(**target, Metadata=metadata)["UploadId"]
        size = max(PART_BYTES, -(-file.bytes // PARTS_MAX))
        parts = [
            {
                "offset": offset,
                "bytes": min(size, file.bytes - offset),
                "url": self._sign_address(bucket, "upload_part", **target, PartNumber=number),
            }
            for number, offset in enumerate(range(0, file.bytes, size), start=1)
        ]
        try:
            job = {"path": file.path, "parts": parts, "bytes_per_second": meter.bytes_per_second}
            lines = [*self._run(bucket, meter, do="upload", **job)]
            found = (read_line(Part, line, str(self)) for line in lines if "part" in line)
            sent = {each.part: each.tag for each in found}
            if [*sorted(sent)] != [*range(1, len(parts) + 1)]:
                raise line_refused(str(self), f"{len(sent)} of {len(parts)} parts have one")
        except BaseException:
            bucket.client.abort_multipart_upload(**target)
            raise
        tags = [{"PartNumber": number, "ETag": tag} for number, tag in sorted(sent.items())]
        bucket.client.complete_multipart_upload(**target, MultipartUpload={"Parts": tags})

    def read_back(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        return self._get("read", bucket, archive, files, meter)

    def download(
        self, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        return self._get("download", bucket, archive, files, meter)

    def delete(self, sources: Sequence[SourceFile]) -> Sequence[str]:
        files = [{"path": each.file.path, "bytes": each.file.bytes, "mtime_ns": each.mtime_ns} for each in sources]
        last = only_line([*self._run(do="delete", files=files)], "changed", str(self))
        return tuple(read_line(ChangedFiles, last, str(self)).changed)

    def listing(self, pattern: str) -> Listing:
        """Return the tier that is mounted here, with the directories in those that *pattern* names."""
        lines = list(self._run(do="list", pattern=pattern))
        usage = read_line(Usage, only_line(lines, "usage", str(self))["usage"], str(self))
        found = (read_line(ItemLine, line["item"], str(self)) for line in lines if "item" in line)
        items = tuple(Item(**each.model_dump()) for each in found)
        return Listing(self.host, self.path, usage.used, usage.total, items)

    def relocate(self, target: str, meter: Meter, mount: str = "") -> None:
        """Move the directory to the path *target* of the same host; it is deleted after its copy was read back.

        Args:
            mount: Mount point above *target* that must be mounted; empty for none.

        Raises:
            StepFailed: it changed, a process uses it, or *target* holds something else. It is whole then.
        """
        limit = meter.bytes_per_second
        for _ in self._run(None, meter, do="relocate", target=target, mount=mount, bytes_per_second=limit):
            pass

    def measure(self, path: str, size: int) -> tuple[float, float]:
        """Write *size* bytes to the new file *path*, which stays, and return the seconds of the write and of a read.

        Raises:
            StepFailed: the file exists, or the tier has no room for twice its size.
        """
        last = only_line([*self._run(do="measure", path=path, bytes=size)], "write_seconds", str(self))
        measured = read_line(Measurement, last, str(self))
        return measured.write_seconds, measured.read_seconds

    def _get(
        self, do: str, bucket: Bucket, archive: str, files: Sequence[ArchivedFile], meter: Meter
    ) -> Mapping[str, ArchivedFile]:
        wanted = {file.path: file for file in files}
        objects = [
            {
                **file.model_dump(),
                "url": self._sign_address(bucket, "get_object", Bucket=bucket.name, Key=bucket.key(archive, file.path)),
            }
            for file in files
        ]
        found = {}
        for line in self._run(bucket, meter, do=do, files=objects, bytes_per_second=meter.bytes_per_second):
            result = read_line(Result, line, str(self)) if "path" in line else None
            if result and result.path in wanted and result.sha256 is not None and result.bytes is not None:
                actual = {"bytes": result.bytes, "sha256": result.sha256}
                found[result.path] = wanted[result.path].model_copy(update=actual)
        return found

    def _sign_address(self, bucket: Bucket, operation: str, **parameters: Any) -> str:
        url: str = bucket.client.generate_presigned_url(operation, parameters, ExpiresIn=SIGNED_SECONDS)
        return url

    def _has_no_directory(self) -> bool:
        return self.connect().run(("test", "-e", self.path)).status == 1

    def _run(self, bucket: Bucket | None = None, meter: Meter | None = None, **job: Any) -> Iterator[dict[str, Any]]:
        """Run the program on the host, and yield its documents.

        Raises:
            StepFailed: the program ended with an error.
        """
        lines: list[dict[str, Any]] = []
        odd: list[InvalidData] = []

        def take(text: str) -> None:
            try:
                line = parse_object(text, LINE_BYTES)
            except InvalidData as error:
                odd.append(error)
                return
            lines.append(line)
            sent = line.get("bytes")
            if meter and type(sent) is int and 0 <= sent <= BYTES_MAX:
                meter.add(sent)

        authority = bucket.authority if bucket else None
        work = {"modules": _modules(), "directory": self.path, "authority": authority, **job}
        argv, connection = (*probe.command(), "transfer"), self.connect()
        result = connection.run(argv, json.dumps(work).encode(), LONGEST_SECONDS, on_line=take)
        last = lines[-1] if lines else {}
        if odd:
            raise line_refused(str(self), str(odd[0]))
        if "error" in last:
            failure = read_line(Failure, last, str(self))
            help = "Correct it on the host, and run the same command again"
            note = "" if failure.in_part else "nothing was deleted"
            raise StepFailed(Diagnostic(str(self), failure.error[:TEXT_LONGEST], help=help, note=note))
        if result.status:
            raise connection.command_error(argv, result)
        yield from lines

    def _source(self, line: object) -> SourceFile:
        mtime_ns = line.pop("mtime_ns", None) if isinstance(line, dict) else None
        try:
            file = ArchivedFile.model_validate(line, strict=True)
            if type(mtime_ns) is int and abs(mtime_ns) <= BYTES_MAX:
                return SourceFile(file, mtime_ns)
            raise line_refused(str(self), "the time of a file is no number of nanoseconds")
        except ValidationError as error:
            problem = f"the host reports a file that cannot be archived: {error.error_count()} values are wrong"
            raise ChangeRefused(Diagnostic(str(self), problem, help="Check who controls the host")) from None


@cache
def _modules() -> list[tuple[str, str]]:
    return [(f"{PACKAGE}.{name}", resources(PACKAGE).joinpath(f"{name}.py").read_text()) for name in PROGRAM]

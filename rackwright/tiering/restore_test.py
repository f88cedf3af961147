"""Restore tests: an archive is restored and loaded, its outputs are compared, and the bucket keeps the result."""

import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rackwright.errors import UserError
from rackwright.progress import Progress
from rackwright.schema.object_store import RESTORE_TEST
from rackwright.tiering import archive, canary
from rackwright.tiering.bucket import Bucket, store_errors
from rackwright.tiering.directory import LocalDirectory
from rackwright.tiering.manifest import ArchiveDamaged, Manifest

MODEL = "model.json"
"""The file that makes a directory a published model."""
HEADER_MAX = 100 << 20
"""Maximum bytes of the header of a safetensors file. Source: safetensors, MAX_HEADER_SIZE."""


@dataclass(frozen=True)
class TestResult:
    """The result of a restore test, as it is in the bucket."""

    __test__ = False  # pytest takes a class of this name for a test

    archive: str
    at: float
    """Time of the end, in seconds of the epoch."""
    passed: bool
    problem: str = ""
    """The first thing that is wrong; empty after a passed test."""
    files: int = 0
    bytes: int = 0
    canary: str = ""
    """The comparison of the model's outputs: `same`, `recorded` at this first test, `different`, or the reason why
    there was none; empty for an archive that is no published model."""


def run(
    bucket: Bucket,
    name: str,
    scratch: Path,
    now: Callable[[], float],
    progress: Progress,
    infer: canary.Infer | None = None,
) -> TestResult:
    """Restore the archive *name* into *scratch*, load every file, and note the result in the bucket.

    The model of an archive computes its canary: the outputs for fixed inputs. The first test records them, and each
    later one compares.

    Args:
        scratch: An empty directory of this computer.
        now: The clock, in seconds of the epoch.
        infer: Returns the outputs of the model in a directory; None compares no outputs.

    Raises:
        EndpointUnreachable: the store does not answer; no result was noted.
        StepFailed: the store refuses the result.
    """
    files = size = 0
    problem = outcome = ""
    try:
        manifest = archive.load_manifest(bucket, name)
        files, size = len(manifest.files), manifest.size
        archive.restore(bucket, manifest, LocalDirectory(scratch), progress)
        problem = next((text for file in manifest.files if (text := load_problem(scratch, file.path))), "")
        if infer and not problem and (scratch / MODEL).is_file():
            progress("compare the outputs of the model")
            outcome, problem = _compare_outputs(bucket, manifest, infer(scratch))
    except ArchiveDamaged as error:
        problem = str(error)
    result = TestResult(name, now(), not problem, problem, files, size, outcome)
    with store_errors(bucket):
        bucket.client.put_object(Bucket=bucket.name, Key=RESTORE_TEST, Body=json.dumps(asdict(result)).encode())
    return result


def _compare_outputs(bucket: Bucket, manifest: Manifest, actual: canary.Canary | canary.NoOutputs) -> tuple[str, str]:
    """Return the outcome of the canary, and the problem; the problem is empty without a difference.

    Raises:
        ArchiveDamaged: the recorded canary was deleted or changed, or cannot be read.
    """
    with store_errors(bucket):
        recorded = canary.find(bucket, manifest)
        if isinstance(actual, canary.NoOutputs):
            lost = recorded is not None and not actual.is_loadable
            return actual.reason, f"the model has no outputs any more: {actual.reason}" if lost else ""
        if recorded is None:
            canary.record(bucket, manifest, actual)
            return "recorded", ""
    if found := canary.difference(recorded, actual):
        return "different", f"{found}; recorded with {recorded.runtime}, now {actual.runtime}"
    return "same", ""


def load_problem(directory: Path, path: str) -> str:
    """Return why the file *path* below *directory* cannot be loaded; empty if it can, or has no known form."""
    place = directory / path
    load = LOADERS.get(place.suffix)
    if load is None:
        return ""
    try:
        load(place)
    except (OSError, ValueError, KeyError, struct.error, zipfile.BadZipFile, tarfile.TarError, UserError) as error:
        return f"{path} cannot be loaded: {error}"
    return ""


def _load_json(place: Path) -> None:
    json.loads(place.read_bytes())


def _load_safetensors(place: Path) -> None:
    """Read the header, and compare the ends of all tensors with the size of the file.

    Source: the format's specification, https://github.com/huggingface/safetensors#format.
    """
    with place.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER_MAX:
            raise ValueError(f"its header has {length} bytes")
        header = json.loads(file.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    wanted, found = 8 + length + max(ends, default=0), place.stat().st_size
    if wanted != found:
        raise ValueError(f"it has {found} bytes, and its tensors end at {wanted}")


def _load_zip(place: Path) -> None:
    with zipfile.ZipFile(place) as file:
        if (damaged := file.testzip()) is not None:
            raise ValueError(f"{damaged} in it is damaged")


def _load_tar(place: Path) -> None:
    with tarfile.open(place) as file:
        for _ in file:
            pass


LOADERS: Mapping[str, Callable[[Path], None]] = {
    ".json": _load_json,
    ".safetensors": _load_safetensors,
    **dict.fromkeys((".npz", ".pt", ".zip"), _load_zip),
    ".tar": _load_tar,
}
"""A function for each ending of a name; it raises an error for a file that cannot be loaded."""

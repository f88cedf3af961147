"""Restore tests: an archive is restored and loaded, its outputs are compared, and the bucket keeps the result."""

import io
import os
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from rackwright.endpoints import restore_result
from rackwright.errors import ChangeRefused, Diagnostic, visible
from rackwright.foreign import InvalidData, TooLarge, parse_json, parse_object, read_bounded
from rackwright.foreign.archives import check_zip, open_tar
from rackwright.foreign.paths import open_regular
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
TENSOR_VALUES_MAX = 2_000_000
"""Maximum number of values in that header; a tensor has six."""
JSON_MAX = 64 << 20
"""Maximum bytes of a JSON file that is loaded; tokenizers have up to 40 MiB."""
JSON_VALUES_MAX = 4_000_000
"""Maximum number of values in it; tokenizers have up to 2 million."""
PROBLEM_LONGEST = 300
"""Maximum characters of the reason why a test failed."""


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
        ChangeRefused: nothing signs the result, so that no reader would trust it.
        EndpointUnreachable: the store does not answer; no result was noted.
        StepFailed: the store refuses the result.
    """
    if bucket.signing_key is None:
        help = "Open the bucket with the account that manages the store"
        raise ChangeRefused(Diagnostic(bucket.where(""), "the key that signs results is unknown", help=help))
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
        problem = str(error)[:PROBLEM_LONGEST]
    result = TestResult(name, now(), not problem, problem, files, size, outcome)
    content = restore_result.render(bucket.signing_key, bucket.name, asdict(result))
    with store_errors(bucket):
        bucket.client.put_object(Bucket=bucket.name, Key=RESTORE_TEST, Body=content)
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
    """Return why the file *path* below *directory* cannot be loaded; empty if it can, or has no known form.

    Whatever a reader of damaged or hostile files raises is such a reason: a test that ends without a result would leave
    the one before in the bucket.
    """
    place = directory / path
    load = LOADERS.get(place.suffix)
    if load is None:
        return ""
    try:
        load(place)
    except Exception as error:
        return f"{path} cannot be loaded: {visible(str(error) or type(error).__name__)[:PROBLEM_LONGEST]}"
    return ""


def _load_json(place: Path) -> None:
    """Load a JSON file; of a larger one, the digest is compared alone."""
    with suppress(TooLarge), open_regular(place) as file:
        parse_json(read_bounded(file, JSON_MAX), JSON_MAX, max_items=JSON_VALUES_MAX, lenient=True)


def _load_safetensors(place: Path) -> None:
    """Read the header, and compare the ends of all tensors with the size of the file.

    Source: the format's specification, https://github.com/huggingface/safetensors#format.
    """
    with io.BufferedReader(open_regular(place)) as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > HEADER_MAX:
            raise InvalidData(f"its header has {length} bytes")
        header = parse_object(file.read(length), HEADER_MAX, max_depth=4, max_items=TENSOR_VALUES_MAX)
        ends = [_end(tensor) for name, tensor in header.items() if name != "__metadata__"]
        wanted, found = 8 + length + max(ends, default=0), os.fstat(file.fileno()).st_size
    if wanted != found:
        raise InvalidData(f"it has {found} bytes, and its tensors end at {wanted}")


def _end(tensor: object) -> int:
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    match offsets:
        case [int(), int(end)] if not isinstance(end, bool):
            return end
    raise InvalidData("a tensor in its header has no place")


def _load_tar(place: Path) -> None:
    with open_tar(place):
        pass


LOADERS: Mapping[str, Callable[[Path], None]] = {
    ".json": _load_json,
    ".safetensors": _load_safetensors,
    **dict.fromkeys((".npz", ".pt", ".zip"), check_zip),
    ".tar": _load_tar,
}
"""A function for each ending of a name; it raises an error for a file that cannot be loaded."""

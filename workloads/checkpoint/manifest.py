"""The manifest of a checkpoint: size and sha256 of each file.

Without it, a flipped byte is loaded as a weight: torch.load, safetensors and torch's distributed checkpoints do not
detect it.
"""

import json
import stat
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk, layout
from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_object

NAME = "manifest.json"
FORMAT = "rackwright checkpoint 1"
MOST_BYTES = 16 << 20
"""Maximum size of a manifest, enough for 50,000 shards."""
_HEX = set("0123456789abcdef")


class CheckpointDamaged(UserError):
    """A checkpoint or archive that differs from its manifest."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """Size and digest of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of one checkpoint."""

    step: int
    """Optimizer steps taken before the checkpoint."""
    world: int
    """Number of shards."""
    files: Mapping[str, ManifestEntry]


def render(manifest: Manifest) -> bytes:
    files = {name: asdict(entry) for name, entry in sorted(manifest.files.items())}
    values = {"format": FORMAT, "step": manifest.step, "world": manifest.world, "files": files}
    return json.dumps(values, indent=1).encode() + b"\n"


def parse(content: bytes) -> Manifest:
    """Return the manifest in *content*; only the exact output of `render` is accepted.

    Raises:
        ValueError: *content* is not a manifest; the message gives the reason.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    values = parse_object(content, MOST_BYTES)
    step, world = _natural(values, "step"), _natural(values, "world")
    files = values["files"] if isinstance(values.get("files"), dict) else {}
    # Compare the counts first: the file names of a hostile shard count may need more memory than available.
    if world < 1 or len(files) != 2 * world or files.keys() != layout.file_names(world):
        raise ValueError(f"its files are not those of {world} shards")
    manifest = Manifest(step, world, {name: parse_entry(entry) for name, entry in files.items()})
    if render(manifest) != content:
        raise ValueError(f'it is not in the format "{FORMAT}"')
    return manifest


def parse_entry(values: Any) -> ManifestEntry:
    """Return the entry of one file.

    Raises:
        ValueError: *values* is not an entry.
    """
    digest = values.get("sha256") if isinstance(values, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= _HEX:
        raise ValueError("an entry without a sha256")
    return ManifestEntry(_natural(values, "bytes"), digest)


def _natural(values: Any, key: str) -> int:
    value = values.get(key) if isinstance(values, dict) else None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{key} is not a number of {key}s")
    return value


def read(directory: Path) -> Manifest:
    """Return the manifest of the checkpoint in *directory* without reading the other files.

    Raises:
        CheckpointDamaged: The manifest is missing or invalid, or belongs to another step.
    """
    try:
        manifest = parse(disk.read(directory / NAME, MOST_BYTES + 1))
    except FileNotFoundError:
        raise damage_error(directory, [f"it has no {NAME}: the write was interrupted"]) from None
    except (OSError, ValueError) as error:
        raise damage_error(directory, [f"{NAME}: {error}"]) from None
    if layout.step_name(manifest.step) != directory.name:
        raise damage_error(directory, [f"{NAME} belongs to step {manifest.step}"])
    return manifest


def verify(
    directory: Path, manifest: Manifest, names: Collection[str] | None = None, *, from_drive: bool = False
) -> None:
    """Raise unless all files match the *manifest*.

    Args:
        names: Files to verify; None for all.
        from_drive: Whether to drop the page cache first, so that the drive itself is read.

    Raises:
        CheckpointDamaged: A file differs; the message names each such file.
    """
    expected = manifest.files if names is None else {name: manifest.files[name] for name in names}
    flaws = [flaw for name, entry in sorted(expected.items()) if (flaw := _flaw(directory / name, entry, from_drive))]
    if flaws:
        raise damage_error(directory, flaws)


def _flaw(path: Path, expected: ManifestEntry, from_drive: bool) -> str:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path.name} is not a regular file"
        if status.st_size != expected.bytes:
            return f"{path.name} has {status.st_size} bytes, not {expected.bytes}"
        actual = disk.sha256(path, from_drive=from_drive)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return (
        "" if actual == expected.sha256 else f"{path.name} has the sha256 {actual[:12]}…, not {expected.sha256[:12]}…"
    )


def damage_error(where: object, flaws: list[str]) -> CheckpointDamaged:
    return CheckpointDamaged(
        Diagnostic(str(where), ", ".join(flaws), "files that match the manifest", "Use another checkpoint")
    )

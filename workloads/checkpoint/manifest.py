"""The manifest of a checkpoint: every file by size and sha256. Without it, a flipped byte is loaded as a weight.

Neither torch.load nor safetensors nor torch's distributed checkpoints notice one.
"""

import json
import stat
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workloads.checkpoint import disk, layout
from workloads.errors import WorkloadError

NAME = "manifest.json"
FORMAT = "rackwright checkpoint 1"
MOST_BYTES = 16 << 20
"""The most that a manifest may have: enough for 50,000 shards."""
_HEX = set("0123456789abcdef")


class Damaged(WorkloadError):
    """A checkpoint, or an archive of one, that is not what its manifest says."""

    exit_status = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of one checkpoint."""

    step: int
    """Optimizer steps done when it was taken."""
    world: int
    """Shards it consists of."""
    files: Mapping[str, Entry]


def render(manifest: Manifest) -> bytes:
    files = {name: asdict(entry) for name, entry in sorted(manifest.files.items())}
    told = {"format": FORMAT, "step": manifest.step, "world": manifest.world, "files": files}
    return json.dumps(told, indent=1).encode() + b"\n"


def parse(content: bytes) -> Manifest:
    """Return what *content* says; exactly what `render` writes is accepted.

    Raises:
        ValueError: says what is wrong with it.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    try:
        told = json.loads(content)
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    step, world = _natural(told, "step"), _natural(told, "world")
    files = told["files"] if isinstance(told.get("files"), dict) else {}
    # The counts come first: the names of the shards that a manifest declares may take more memory than there is.
    if world < 1 or len(files) != 2 * world or files.keys() != layout.file_names(world):
        raise ValueError(f"its files are not those of {world} shards")
    manifest = Manifest(step, world, {name: parse_entry(entry) for name, entry in files.items()})
    if render(manifest) != content:
        raise ValueError(f'it is not written as "{FORMAT}" is')
    return manifest


def parse_entry(told: Any) -> Entry:
    """Return one file's entry.

    Raises:
        ValueError: it is none.
    """
    digest = told.get("sha256") if isinstance(told, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or not set(digest) <= _HEX:
        raise ValueError("an entry without a sha256")
    return Entry(_natural(told, "bytes"), digest)


def _natural(told: Any, key: str) -> int:
    value = told.get(key) if isinstance(told, dict) else None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{key} is not a number of {key}s")
    return value


def read(directory: Path) -> Manifest:
    """Return the manifest of the checkpoint in *directory*, its files not yet looked at.

    Raises:
        Damaged: it has none, or one that is not of this directory.
    """
    try:
        manifest = parse(disk.read(directory / NAME, MOST_BYTES + 1))
    except FileNotFoundError:
        raise damaged(directory, [f"it has no {NAME}: half-written"]) from None
    except (OSError, ValueError) as error:
        raise damaged(directory, [f"{NAME}: {error}"]) from None
    if layout.step_name(manifest.step) != directory.name:
        raise damaged(directory, [f"{NAME} is that of step {manifest.step}"])
    return manifest


def prove(
    directory: Path, manifest: Manifest, names: Collection[str] | None = None, *, from_drive: bool = False
) -> None:
    """Return if all files are as the *manifest* says.

    Args:
        names: Only these; all of them where it is None.
        from_drive: Whether the page cache is to be let go of first: what is proved is then what the drive holds.

    Raises:
        Damaged: one is not; names each of those.
    """
    wanted = manifest.files if names is None else {name: manifest.files[name] for name in names}
    flaws = [flaw for name, entry in sorted(wanted.items()) if (flaw := _flaw(directory / name, entry, from_drive))]
    if flaws:
        raise damaged(directory, flaws)


def _flaw(path: Path, wanted: Entry, from_drive: bool) -> str:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return f"{path.name} is no regular file"
        if status.st_size != wanted.bytes:
            return f"{path.name} has {status.st_size} bytes, not {wanted.bytes}"
        found = disk.sha256(path, from_drive=from_drive)
    except FileNotFoundError:
        return f"{path.name} is missing"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return "" if found == wanted.sha256 else f"{path.name} has the sha256 {found[:12]}…, not {wanted.sha256[:12]}…"


def damaged(where: object, flaws: list[str]) -> Damaged:
    return Damaged(str(where), ", ".join(flaws), "every file has to be as it was written", "Take another checkpoint")

"""Archives of checkpoints: made, and taken back."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rackwright import terminal

if TYPE_CHECKING:
    from workloads.checkpoint.archive import VerifiedCheckpoint

app = typer.Typer()
Compression = Literal["none", "gz", "zst"]
"""The values of the enumeration in workloads.checkpoint.archive, which takes long to import."""
Json = Annotated[bool, typer.Option("--json", help="Print the result for machines.")]


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What a training saves its checkpoints to.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Directory for the archive.")] = Path(),
    step: Annotated[
        int | None, typer.Option(help="Which checkpoint; the newest intact one where it is not given.")
    ] = None,
    compression: Annotated[Compression, typer.Option(help="Weights hardly get smaller, and gz takes long.")] = "none",
    as_json: Json = False,
) -> None:
    """Write a time-stamped archive of a checkpoint, and read it back.

    Exit status: 0 it is whole, 1 the checkpoint is damaged, 2 there is none, 4 the archive could not be written.
    """
    from workloads.checkpoint import archive

    _tell(archive.backup(directory, to, step, archive.Compression(compression)), as_json)


@app.command()
def restore(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="What `rackwright backup` has written.")],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of checkpoints. Without it, nothing is written.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove an archive by all its digests and, with --to, take its checkpoint back. Overwrites nothing.

    Exit status: 0 every byte is as it was written, 1 it is damaged, 2 it exists already, 4 reading or writing failed.
    """
    from workloads.checkpoint import archive

    _tell(archive.restore(path, to) if to else archive.verify(path), as_json)


def _tell(proved: "VerifiedCheckpoint", as_json: bool) -> None:
    if as_json:
        terminal.show(json.dumps({**asdict(proved), "path": str(proved.path)}))
    else:
        terminal.show(
            f"{proved.path}: step {proved.step}, {proved.files} files, {proved.bytes} bytes, read back and as written"
        )

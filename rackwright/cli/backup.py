"""The commands that write and restore archives of checkpoints."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rackwright import terminal
from rackwright.cli.arguments import MODELS, AsJson

if TYPE_CHECKING:
    from rackwright.cli.json_types import CheckpointData
    from workloads.checkpoint.archive import VerifiedCheckpoint

app = typer.Typer()
Compression = Literal["none", "gz", "zst"]
"""The values of the enumeration in workloads.checkpoint.archive, which takes long to import."""


@app.command(rich_help_panel=MODELS)
def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of a training's checkpoints.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Directory for the archive.")] = Path(),
    step: Annotated[
        int | None, typer.Option(help="The step of the checkpoint; by default the newest intact one.")
    ] = None,
    compression: Annotated[Compression, typer.Option(help="Weights hardly shrink, and gz is slow.")] = "none",
    as_json: AsJson = False,
) -> None:
    """Write an archive of a checkpoint, with the time in its name, and read it back.

    Exit status: 0 the archive is whole, 1 the checkpoint is damaged, 2 there is no checkpoint, 4 writing failed.
    """
    from rackwright.cli import recording
    from workloads.checkpoint import archive

    with recording.record("backup", arguments={"from": str(directory), "to": str(to)}, planned=[]):
        verified = archive.backup(directory, to, step, archive.Compression(compression))
    _print_result(verified, as_json)


@app.command(rich_help_panel=MODELS)
def restore(
    path: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="An archive of `rackwright backup`.")],
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Directory of checkpoints. Without it, nothing is written.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify all digests of an archive and, with --to, restore its checkpoint. Overwrites nothing.

    Exit status: 0 every byte is intact, 1 it is damaged, 2 the checkpoint exists already, 4 reading or writing failed.
    """
    from rackwright.cli import recording
    from workloads.checkpoint import archive

    if to is None:
        _print_result(archive.verify(path), as_json)
        return
    with recording.record("restore", arguments={"from": str(path), "to": str(to)}, planned=[]):
        verified = archive.restore(path, to)
    _print_result(verified, as_json)


def _print_result(verified: "VerifiedCheckpoint", as_json: bool) -> None:
    if as_json:
        data: CheckpointData = {
            "path": str(verified.path),
            "step": verified.step,
            "files": verified.files,
            "bytes": verified.bytes,
        }
        terminal.show_json(data)
    else:
        terminal.show(
            f"{verified.path}: step {verified.step}, {verified.files} files, {verified.bytes} bytes, read back intact"
        )

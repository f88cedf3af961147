"""Copy a model to the models of a host, verified, under its version, whole or not at all.

python -m workloads.serving.place MODELS VERSION                        from MODELS/.VERSION.partial, sent before
python -m workloads.serving.place MODELS VERSION --copy DIRECTORY       from that directory, such as a tier's
"""

import os
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Never

from workloads import output_directory
from workloads.checkpoint import disk
from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError, print_error
from workloads.serving import model as model_directory
from workloads.serving.model import MANIFEST_BYTES, NAME, Model

SECONDS = 3600
"""Seconds for the whole copy: a model of hundreds of GB from a tier of hard disks."""
RESERVE_BYTES = 64 << 20
"""Bytes that stay free on the drive of MODELS."""


def place(
    models: Path, version: str, source: Path | None, accuracy_kept: float | None, seconds: float = SECONDS
) -> Model:
    """Put the model *version* below *models*, readable by root and the group of *models* alone.

    Another account may own *source* and change it at any moment, while this process is root. So this function opens
    *source* once, opens the files below that descriptor, follows no links and waits for no FIFO's writer. It copies the
    very bytes of model.json that it has checked. Links in the path above *source* are followed: they lead to another
    directory, which then has to hold this same version.

    Args:
        source: The directory to copy from; None: the files are in the partial directory already.
        accuracy_kept: The least accuracy that the model's report has to state; None: no check.
        seconds: Seconds after which the copy fails.

    Raises:
        UserError: the model has another version, is damaged, or is not accurate enough. Nothing is left behind.
    """
    target, partial = models / version, models / f".{version}.partial"
    with _remove_on_failure(partial), _deadline(partial, seconds):
        if source is not None:
            shutil.rmtree(partial, ignore_errors=True)
            models.mkdir(parents=True, exist_ok=True)
            partial.mkdir(mode=0o700)
            _copy(source, partial, version)
        model = _check_model(str(source or partial), model_directory.read(partial), version)
        model_directory.verify(partial, model)
        model_directory.check_accuracy(model, accuracy_kept)
        _share(partial, models)
        output_directory.replace(partial, target)
    return model


def _copy(source: Path, partial: Path, version: str) -> None:
    """Copy the model *version* of the directory *source* to *partial*."""
    directory = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with _open_file(source, directory, NAME) as file:
            content = file.read(MANIFEST_BYTES + 1)
        model = _check_model(str(source), model_directory.parse(content, source / NAME), version)
        _check_room(model, partial)
        for name, entry in model.files.items():
            with _open_file(source, directory, name) as file:
                size = os.fstat(file.fileno()).st_size
                if size != entry.bytes:
                    problem, expected = f"{name} has {size} bytes", f"{entry.bytes} bytes, as published"
                    help = "Publish the model again"
                    raise model_directory.DamagedModel(Diagnostic(str(source), problem, expected, help))
                _copy_bytes(file, partial / name, size)
        disk.write(partial / NAME, content)
    finally:
        os.close(directory)


@contextmanager
def _open_file(source: Path, directory: int, name: str) -> Iterator[BinaryIO]:
    """Open the file *name* of the directory *source*, whose descriptor is *directory*.

    Raises:
        UserError: the file is a link, a FIFO, or anything else but a regular file.
    """
    # O_NONBLOCK: without it, opening a FIFO waits for its writer
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        problem = f"{name!r} cannot be read: {error.strerror}"
        raise UserError(Diagnostic(str(source), problem, _REGULAR, "Publish the model again")) from None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            problem = f"{name!r} is not a regular file"
            raise UserError(Diagnostic(str(source), problem, _REGULAR, "Publish the model again"))
        yield file


_REGULAR = "regular files in the directory of model.json"


def _copy_bytes(source: BinaryIO, target: Path, size: int) -> None:
    """Write *size* bytes of *source*, or as many as it has, to the new file *target*; *source* may still grow."""
    with target.open("xb") as file:
        while size and (chunk := source.read(min(size, disk.CHUNK))):
            file.write(chunk)
            size -= len(chunk)
        file.flush()
        os.fsync(file.fileno())


def _check_model(where: str, model: Model, version: str) -> Model:
    """Return *model* if it is *version* and all its files are beside its model.json: root writes files by these names.

    Raises:
        UserError: the model is another version, or a file name leads elsewhere.
    """
    for name in model.files:
        if "/" in name or "\0" in name or name in ("", ".", "..", NAME):
            problem = f"the model names the file {name!r}"
            raise UserError(Diagnostic(where, problem, _REGULAR, "Publish the model again"))
    if (actual := model_directory.version_of(model.files)) != version:
        problem, expected = f"the model has version {actual}", f"{version}, which the fleet declares"
        raise UserError(Diagnostic(where, problem, expected, "Correct the version or the path"))
    return model


def _check_room(model: Model, partial: Path) -> None:
    """Check that the files of *model* fit beside *partial*: a sparse file can claim a size larger than any drive.

    Raises:
        UserError: they do not fit.
    """
    needed, free = sum(file.bytes for file in model.files.values()), shutil.disk_usage(partial).free
    if needed + RESERVE_BYTES > free:
        problem = f"only {free / 1e9:.1f} GB are free for a model of {needed / 1e9:.1f} GB"
        expected = f"at least {(needed + RESERVE_BYTES) / 1e9:.1f} GB"
        help = "Free space, or serve a smaller model"
        raise UserError(Diagnostic(str(partial.parent), problem, expected, help))


def _share(partial: Path, models: Path) -> None:
    """Make *partial* readable for the group of *models* alone."""
    group = models.stat().st_gid
    for path, mode in (*((path, 0o640) for path in partial.iterdir()), (partial, 0o750)):
        if path.is_symlink() or (path != partial and not path.is_file()):
            problem = f"{path.name!r} is not a regular file"
            raise UserError(Diagnostic(str(partial), problem, _REGULAR, "Publish the model again"))
        os.chown(path, -1, group)
        path.chmod(mode)


@contextmanager
def _remove_on_failure(partial: Path) -> Iterator[None]:
    """Remove *partial* if the block fails, whatever the reason; SIGTERM counts as a failure."""

    def stop(number: int, frame: FrameType | None) -> Never:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _deadline(partial: Path, seconds: float) -> Iterator[None]:
    """Fail the block after *seconds*."""

    def late(number: int, frame: FrameType | None) -> Never:
        problem, help = f"the copy did not end within {seconds:g} s", "Check its drive, and run the command again"
        raise UserError(Diagnostic(str(partial), problem, help=help))

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser(
        "workloads.serving.place",
        __doc__,
        "Exit status: 0 the model is in place, 1 it is damaged, 2 it has another version, or is not accurate enough.",
    )
    parser.add_argument("models", metavar="MODELS", type=Path, help="directory of the host's models, by version")
    parser.add_argument("version", metavar="VERSION", help="the model's version: the beginning of its files' digest")
    parser.add_argument("--copy", metavar="DIRECTORY", type=Path, help="copy the model from this directory")
    parser.add_argument(
        "--accuracy-kept", type=float, metavar="SHARE", help="the least accuracy that the model's report has to state"
    )
    args = parser.parse_args(argv)
    try:
        model = place(args.models, args.version, args.copy, args.accuracy_kept)
    except OSError as error:  # a full drive, a missing tier
        where, problem = str(error.filename or args.models), f"the model cannot be copied: {error.strerror}"
        print_error(Diagnostic(where, problem, help="Correct the cause, and run the command again"))
        return 1
    print(f"{model.name} {model.version} is complete, in {args.models / model.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

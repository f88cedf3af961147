"""Put a model where the servers of a host take it from: proved, under its version, whole or not at all.

python -m workloads.serving.place MODELS VERSION                        what was sent to MODELS/.VERSION.partial
python -m workloads.serving.place MODELS VERSION --copy DIRECTORY       what is in that directory, such as a tier's
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

from workloads.checkpoint import disk
from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving import model as published
from workloads.serving.model import MANIFEST_BYTES, NAME, Model

SECONDS = 3600
"""Seconds for the whole copy: a model of hundreds of GB from a tier of drives that turn."""
RESERVE_BYTES = 64 << 20
"""Bytes that stay free on the drive of MODELS."""


def place(
    models: Path, version: str, source: Path | None, accuracy_kept: float | None, seconds: float = SECONDS
) -> Model:
    """Put the model *version* below *models*, readable by root and the group of *models* alone.

    Another account may own *source* and change it at any moment, while this process is root. So *source* is opened
    once; the files are opened below that descriptor, without following links and without waiting for a FIFO's writer;
    model.json is the bytes that were judged. Links in the path above *source* are followed: they lead to some other
    directory, which then has to hold this same version.

    Args:
        source: The directory to copy from; None: the files were sent to the partial directory already.
        accuracy_kept: The least accuracy that the model's report has to state; None asks for nothing.
        seconds: Seconds until the copy is given up.

    Raises:
        WorkloadError: the model has another version, is damaged, or is not good enough. Nothing is left behind.
    """
    target, partial = models / version, models / f".{version}.partial"
    with _removed_on_failure(partial), _deadline(partial, seconds):
        if source is not None:
            shutil.rmtree(partial, ignore_errors=True)
            models.mkdir(parents=True, exist_ok=True)
            partial.mkdir(mode=0o700)
            _copy(source, partial, version)
        model = _checked(str(source or partial), published.read(partial), version)
        published.prove(partial, model)
        published.judge(model, accuracy_kept)
        _share(partial, models)
        published.replace(partial, target)
    return model


def _copy(source: Path, partial: Path, version: str) -> None:
    """Copy the model *version* of the directory *source* to *partial*."""
    directory = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with _opened(source, directory, NAME) as file:
            content = file.read(MANIFEST_BYTES + 1)
        model = _checked(str(source), published.parse(content, source / NAME), version)
        _check_room(model, partial)
        for name, told in model.files.items():
            with _opened(source, directory, name) as file:
                size = os.fstat(file.fileno()).st_size
                if size != told.bytes:
                    want = "every file has to be as it was written"
                    got = f"{name} has {size} bytes, not {told.bytes}"
                    raise published.DamagedModel(str(source), got, want, "Publish the model again")
                _copy_bytes(file, partial / name, size)
        disk.write(partial / NAME, content)
    finally:
        os.close(directory)


@contextmanager
def _opened(source: Path, directory: int, name: str) -> Iterator[BinaryIO]:
    """Open the file *name* of the directory *source*, whose descriptor is *directory*.

    Raises:
        WorkloadError: it is a link, a FIFO, or anything else but a file.
    """
    # O_NONBLOCK: to open a FIFO would wait for its writer
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        got = f"got {name!r}: {error.strerror}"
        raise WorkloadError(str(source), got, _PLAIN, "Publish the model again") from None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            got = f"got {name!r}, which is no regular file"
            raise WorkloadError(str(source), got, _PLAIN, "Publish the model again")
        yield file


_PLAIN = "a model's files are regular files that lie beside its model.json"


def _copy_bytes(source: BinaryIO, target: Path, size: int) -> None:
    """Write *size* bytes of *source*, or as many as it has, to the new file *target*: it may grow at any moment."""
    with target.open("xb") as file:
        while size and (chunk := source.read(min(size, disk.CHUNK))):
            file.write(chunk)
            size -= len(chunk)
        file.flush()
        os.fsync(file.fileno())


def _checked(where: str, model: Model, version: str) -> Model:
    """Return *model* if it is *version* and its files lie beside its model.json: root writes by these names.

    Raises:
        WorkloadError: it is another version, or a name leads elsewhere.
    """
    for name in model.files:
        if "/" in name or "\0" in name or name in ("", ".", "..", NAME):
            raise WorkloadError(where, f"got the file {name!r}", _PLAIN, "Publish the model again")
    if (got := published.version_of(model.files)) != version:
        raise WorkloadError(
            where, f"got version {got}", f"{version} is to be served", "Correct the version or the path"
        )
    return model


def _check_room(model: Model, partial: Path) -> None:
    """Return if the files of *model* fit beside *partial*: a sparse file declares a size that no drive has.

    Raises:
        WorkloadError: they do not.
    """
    needed, free = sum(file.bytes for file in model.files.values()), shutil.disk_usage(partial).free
    if needed + RESERVE_BYTES > free:
        got = f"got {free / 1e9:.1f} GB free for a model of {needed / 1e9:.1f} GB"
        raise WorkloadError(str(partial.parent), got, "the model fits there", "Free space, or serve a smaller model")


def _share(partial: Path, models: Path) -> None:
    """Let the group of *models* alone read what is in *partial*."""
    group = models.stat().st_gid
    for path, mode in (*((path, 0o640) for path in partial.iterdir()), (partial, 0o750)):
        if path.is_symlink() or (path != partial and not path.is_file()):
            raise WorkloadError(str(partial), f"got {path.name!r}", _PLAIN, "Publish the model again")
        os.chown(path, -1, group)
        path.chmod(mode)


@contextmanager
def _removed_on_failure(partial: Path) -> Iterator[None]:
    """Remove *partial* where the block fails, whatever ends it; a signal that asks to stop is such an end."""

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
        want = f"the model is there within {seconds:g} s"
        raise WorkloadError(str(partial), "got no end", want, "See whether its drive answers, then run it again")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(argv: list[str] | None = None) -> int:
    parser = new_parser(
        "workloads.serving.place",
        __doc__,
        "Exit status: 0 it is there, 1 it is damaged, 2 it is another one, or not good enough.",
    )
    parser.add_argument("models", metavar="MODELS", type=Path, help="where the host's models are, by version")
    parser.add_argument("version", metavar="VERSION", help="the beginning of its files' digest")
    parser.add_argument("--copy", metavar="DIRECTORY", type=Path, help="copy it from there")
    parser.add_argument("--accuracy-kept", type=float, metavar="SHARE", help="what its report has to say at least")
    given = parser.parse_args(argv)
    try:
        model = place(given.models, given.version, given.copy, given.accuracy_kept)
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    except OSError as error:  # a drive that is full, a tier that is gone
        print(WorkloadError(str(error.filename or given.models), f"got {error.strerror}", "the model is copied there",
                            "Mend that"), file=sys.stderr, flush=True)  # fmt: skip
        return 1
    print(f"{model.name} {model.version} is whole, in {given.models / model.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

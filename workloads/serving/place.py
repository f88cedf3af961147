"""Put a model where the servers of a host take it from: proved, under its version, whole or not at all.

python -m workloads.serving.place MODELS VERSION                        what was sent to MODELS/.VERSION.partial
python -m workloads.serving.place MODELS VERSION --copy DIRECTORY       what is in that directory, such as a tier's
"""

import shutil
import sys
from pathlib import Path

from workloads.common.checkpoint import disk
from workloads.common.command_line import new_parser
from workloads.common.errors import WorkloadError
from workloads.serving import model as published
from workloads.serving.model import NAME, Model


def place(models: Path, version: str, source: Path | None, accuracy_kept: float | None) -> Model:
    """Put the model *version* below *models*; one that is there and whole stays as it is.

    Args:
        source: The directory that it is copied from; None: it has been sent already.
        accuracy_kept: What its report has to say; None asks for nothing.

    Raises:
        WorkloadError: it is another version, is damaged, or is not good enough; nothing was put there.
    """
    target, partial = models / version, models / f".{version}.partial"
    if source is not None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name in (*_plain(source, published.read(source)).files, NAME):
            with (source / name).open("rb") as content:
                disk.copy(content, partial / name)
    model = _plain(partial, published.read(partial))
    published.prove(partial, model)
    if published.version_of(model.files) != version:
        got = f"got version {published.version_of(model.files)}"
        raise WorkloadError(
            str(source or partial), got, f"{version} is to be served", "Correct the version or the path"
        )
    published.judge(model, accuracy_kept)
    published.replace(partial, target)
    return model


def _plain(directory: Path, model: Model) -> Model:
    """Return *model* if its files lie beside its model.json: root reads and writes by these names.

    Raises:
        WorkloadError: a name leads elsewhere.
    """
    for name in model.files:
        if "/" in name or name in ("", ".", "..") or (directory / name).is_symlink():
            want = "a model's files lie beside its model.json"
            raise WorkloadError(str(directory), f"got the file {name!r}", want, "Publish it anew")
    return model


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

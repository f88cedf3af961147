"""Publish a language model in a GGUF file as a directory that can be served.

    python -m workloads.serving.gguf SmolLM2-135M-Instruct.gguf --name smollm2 --card README.md --out published/smollm2

What llama.cpp does not load and write a first token with is not published. The card goes with the model to every host.
"""

import sys
from pathlib import Path

from workloads.command_line import new_parser
from workloads.errors import WorkloadError
from workloads.serving.model import Model, check_name, publish
from workloads.serving.settings import Settings

STATUS = "Exit status: 0 published, 2 wrong or refused."


def published(path: Path, name: str, card: Path | None, directory: Path) -> Model:
    """Publish the GGUF file *path* as the model *name* in *directory*, and return what it is.

    Raises:
        WorkloadError: *name* is none, a file is not there, llama.cpp does not load it, or *directory* is no model's.
    """
    files = {"model.gguf": path, **({"card.md": card} if card else {})}
    check_name(name)
    for each in files.values():
        if not each.is_file():
            raise WorkloadError(str(each), "got no file", "it is published", "Mend its path")
    from workloads.serving.runtimes.llama import loaded

    loaded(path, Settings(parallel=1, context_tokens=256))
    return publish(directory, files, name, (), (), {"file": path.name}, runtime="llama.cpp")


def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.gguf", __doc__, STATUS)
    parser.add_argument("file", metavar="FILE.gguf", type=Path)
    parser.add_argument("--name", required=True, help="what clients call it")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="what it is, from whom, and under which licence")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where it is published")
    given = parser.parse_args(argv)
    try:
        model = published(given.file, given.name, given.card, given.out)
    except WorkloadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_status
    print(f"published {given.out}: {model.name} {model.version}, {given.file.stat().st_size / 1e6:.0f} MB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

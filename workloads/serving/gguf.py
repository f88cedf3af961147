"""Publish a language model in a GGUF file as a directory that can be served.

    python -m workloads.serving.gguf SmolLM2-135M-Instruct.gguf --name smollm2 --card README.md --out published/smollm2

A model is published only if llama.cpp loads it and generates a first token, or for embeddings a first vector. The
card goes to every host with the model.
A file of `python -m workloads.export` is published with the training that it came from.
"""

import sys
from pathlib import Path

from workloads.command_line import as_command, new_parser
from workloads.errors import Diagnostic, UserError
from workloads.output_directory import OutputDirectory, add_arguments
from workloads.serving import gguf_header
from workloads.serving.exported import exported_lineage
from workloads.serving.model import MODEL, Model, check_name, publish
from workloads.serving.settings import ServingSettings

POOLINGS = ("model", "mean", "cls", "last")
CHECKED_TOKENS = 256
"""Tokens of the context in which the model generates a first token: a long one would need much memory."""
STATUS = "Exit status: 0 published, 2 wrong input or refused."


def publish_gguf(
    path: Path, name: str, card: Path | None, directory: Path, embeddings: str | None = None, replace: bool = False
) -> Model:
    """Publish the GGUF file *path* as the model *name* in *directory*, and return the model.

    Args:
        embeddings: The pooling of an embedding model, as the setting of that name; None: it writes texts.
        replace: Whether the model replaces another one in *directory*.

    Raises:
        UserError: *name* is invalid, a file is missing, llama.cpp cannot load it, or *directory* exists.
    """
    OutputDirectory(directory, MODEL, replace).check()
    files = {"model.gguf": path, **({"card.md": card} if card else {})}
    check_name(name)
    for each in files.values():
        if not each.is_file():
            problem = "it is no regular file" if each.exists() else "the file does not exist"
            raise UserError(Diagnostic(str(each), problem, help="Correct the path"))
    from workloads.serving.runtimes.llama import start_server

    longest = gguf_header.check(path)
    defaults = {"embeddings": embeddings} if embeddings else {}
    few = min(CHECKED_TOKENS, longest or CHECKED_TOKENS)
    start_server(path, ServingSettings.model_validate({"parallel": 1, "context_tokens": few, **defaults}))
    lineage = {"file": path.name, **exported_lineage(path.parent), **({"defaults": defaults} if defaults else {})}
    if longest:
        lineage["context_tokens"] = longest
    return publish(directory, files, name, (), (), lineage, runtime="llama.cpp", replace=replace)


@as_command
def main(argv: list[str] | None = None) -> int:
    parser = new_parser("workloads.serving.gguf", __doc__, STATUS)
    parser.add_argument("file", metavar="FILE.gguf", type=Path)
    parser.add_argument("--name", required=True, help="the model's name, for clients")
    parser.add_argument("--card", type=Path, metavar="FILE.md", help="the model card: content, author and licence")
    help = "serve it as an embedding model, with the pooling that the file has, or with this one"
    parser.add_argument("--embeddings", nargs="?", const="model", choices=POOLINGS, help=help)
    add_arguments(parser, "the published model")
    args = parser.parse_args(argv)
    model = publish_gguf(args.file, args.name, args.card, args.out, args.embeddings, args.replace)
    size = f"{args.file.stat().st_size / 1e6:.0f} MB"
    tokens = model.lineage.get("context_tokens")
    context = f", texts of at most {tokens} tokens" if tokens else ""
    print(f"published {args.out}: {model.name} {model.version}, {size}{context}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

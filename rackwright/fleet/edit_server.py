"""The edit of a fleet's file that gives a server another model and keeps all other text."""

from pathlib import Path

from rackwright.errors import DeclarationError, Diagnostic
from rackwright.fleet.source import read
from rackwright.schema.problem import Problem
from rackwright.schema.server import ServedModel


def replace_model(path: Path, server: str, model: ServedModel) -> str:
    """Return the text of *path* with *model* as the model of *server*, which that file declares.

    Raises:
        DeclarationError: the file is no YAML, or writes the model in a form that this edit cannot replace.
    """
    # in quotes, because YAML takes the version 12e456789012 for a number
    entries = ", ".join(f'{name}: "{value}"' for name, value in model.model_dump(exclude_none=True).items())
    if path.suffix != ".yaml":
        problem = "rackwright cannot edit a fleet that is a program"
        help = f"Write the model by hand: {{{entries}}}"
        raise DeclarationError(Diagnostic(str(path), problem, "a fleet in YAML", help))
    source = read(path)
    keys = ("servers", server, "model")
    span = source.mapping(keys)
    if span is None:
        error = Problem("the model is not a mapping", "a mapping of texts", "Write it like {path: models/digits}")
        raise DeclarationError(source.error(error, keys))
    text = path.read_text(encoding="utf-8")
    return f"{text[: span[0]]}{{{entries}}}{text[span[1] :]}"

"""Another model for a server, written into the text of a fleet's file; all other text stays as it is."""

from pathlib import Path

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.fleet.source import read
from rackwright.schema.problem import Problem
from rackwright.schema.server import Served


def replace_model(path: Path, server: str, model: Served) -> str:
    """Return what stands in *path* with *model* as that of *server*, which is declared there.

    Raises:
        DeclarationErrors: it does not stand there in a way that a text can be exchanged.
    """
    # in quotes: 12e456789012 is a version here, and a number to YAML
    told = ", ".join(f'{name}: "{value}"' for name, value in model.model_dump(exclude_none=True).items())
    if path.suffix != ".yaml":
        want, fix = "a model is exchanged in YAML alone", f"Write it by hand: {{{told}}}"
        raise DeclarationErrors([DeclarationError(str(path), "got a program", want, fix)])
    source = read(path)
    keys = ("servers", server, "model")
    place = source.mapping(keys)
    if place is None:
        problem = Problem("got another form", "a model is a mapping of texts", "Write it like {path: models/digits}")
        raise DeclarationErrors([source.error(problem, keys)])
    text = path.read_text(encoding="utf-8")
    return f"{text[: place[0]]}{{{told}}}{text[place[1] :]}"

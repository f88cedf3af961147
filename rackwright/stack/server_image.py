"""The image of a declared server, for whoever runs it where no host of ours does."""

from collections.abc import Sequence
from pathlib import Path

from rackwright.core.repository import Repository
from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.kinds.model_server import image as images
from rackwright.kinds.model_server.image import Image
from rackwright.kinds.model_server.spec import ServerSpec
from workloads.serving import model as published

LOCKED = ("onnx", "llama.cpp")
"""Runtimes that the lock of serving has."""


def image(
    specs: Sequence[ServerSpec],
    repository: Repository,
    base: str,
    requirements: Path | None = None,
    python_of_base: bool = False,
) -> Image:
    """Return the image of a server that is declared by *specs*, one for each of its hosts.

    Raises:
        DeclarationErrors: there is none; says all that is wrong.
    """
    spec = specs[0]
    item = images.definition(spec, repository, base, _text(spec, requirements), python_of_base)
    wrong = [
        DeclarationError(_place(spec), problem.got, problem.want, problem.fix)
        for problem in images.problems(item, repository)
    ]
    if len({spec.settings for spec in specs}) > 1:
        want, fix = "an image has one set of them", "Say `tensor_parallel` in `set` of the server"
        wrong.append(DeclarationError(_place(spec), "got other settings on other hosts", want, fix))
    if requirements is None and spec.source and (runtime := published.read(Path(spec.source)).runtime) not in LOCKED:
        want = f"this repository's lock has {' and '.join(LOCKED)}"
        fix = "Give --requirements FILE with hashes, of an environment that has it"
        wrong.append(DeclarationError(_place(spec), f"got a model of {runtime}", want, fix))
    if wrong:
        raise DeclarationErrors(wrong)
    return images.image(spec, item, repository)


def _text(spec: ServerSpec, requirements: Path | None) -> str | None:
    try:
        return requirements.read_text() if requirements else None
    except OSError as error:
        got, fix = f"got {requirements}: {error.strerror}", "Correct the path"
        raise DeclarationErrors([DeclarationError(_place(spec), got, "what is installed is read there", fix)]) from None


def _place(spec: ServerSpec) -> str:
    return f"image of {spec.name}"

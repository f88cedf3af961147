"""The container image of a declared server, for use outside the fleet's hosts."""

from collections.abc import Sequence
from pathlib import Path

from rackwright.core.repository import Repository
from rackwright.errors import DeclarationError, Diagnostic
from rackwright.kinds.model_server import image as images
from rackwright.kinds.model_server.image import ServerImage
from rackwright.kinds.model_server.spec import ServerSpec
from workloads.serving import model as model_directory

LOCKED_RUNTIMES = ("onnx", "llama.cpp")
"""Runtimes in this repository's lock for serving."""


def image(
    specs: Sequence[ServerSpec],
    repository: Repository,
    base: str,
    requirements: Path | None = None,
    python_of_base: bool = False,
) -> ServerImage:
    """Return the image of the server with *specs*, one spec for each of its hosts.

    Raises:
        DeclarationError: all reasons why the server cannot have an image.
    """
    spec = specs[0]
    text = _read_requirements(spec, requirements)
    item = images.definition(spec, repository, base, text, python_of_base)
    wrong = [problem.at(_place(spec)) for problem in images.problems(item, repository)]
    if spec.replica:
        expected, help = "an image serves by itself", "Declare a server with vllm.replica_hosts: 1"
        wrong.append(Diagnostic(_place(spec), "got replicas over several hosts", expected, help))
    elif any(other.settings != spec.settings for other in specs):
        expected, help = "an image has one set of settings", "Write `tensor_parallel` into `set` of the server"
        wrong.append(Diagnostic(_place(spec), "got different settings on different hosts", expected, help))
    if spec.adapters:
        expected, help = "an image has no adapters, which hosts load from their drives", "Declare a server without them"
        wrong.append(Diagnostic(_place(spec), "got adapters", expected, help))
    if (
        requirements is None
        and spec.source
        and (runtime := model_directory.read(Path(spec.source)).runtime) not in LOCKED_RUNTIMES
    ):
        expected = f"this repository's lock has {' and '.join(LOCKED_RUNTIMES)}"
        help = "Add --requirements FILE with the hashed requirements of an environment with that runtime"
        wrong.append(Diagnostic(_place(spec), f"got a model of {runtime}", expected, help))
    if wrong:
        raise DeclarationError(*wrong)
    return images.image(spec, item, repository)


def _read_requirements(spec: ServerSpec, requirements: Path | None) -> str | None:
    try:
        return requirements.read_text() if requirements else None
    except OSError as error:
        problem, expected = f"got {requirements}: {error.strerror}", "the file lists the packages of the image"
        raise DeclarationError(Diagnostic(_place(spec), problem, expected, "Correct the path")) from None


def _place(spec: ServerSpec) -> str:
    return f"image of {spec.name}"

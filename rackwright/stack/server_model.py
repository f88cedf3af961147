"""The model that a server is to serve: by directory, by version, or by its name in the registry."""

import re
from pathlib import Path

from pydantic import ValidationError

from rackwright.errors import DeclarationError
from rackwright.schema.server import REGISTERED, Served
from rackwright.stack.stack import Stack
from workloads.errors import WorkloadError
from workloads.serving import model as published


def model_to_serve(stack: Stack, server: str, model: str) -> Served:
    """Return what *server* is to serve: the model in a directory of this computer, or another version of its own.

    Raises:
        DeclarationError: it is neither.
        WorkloadError: what is in the directory is no model, or not as good as the server asks.
    """
    declared = stack.fleet.servers[server]
    try:
        if re.fullmatch(r"[0-9a-f]{12}", model) and not (stack.project / model).exists():
            return Served.model_validate(declared.model.of_version(model).model_dump())
        found = published.read(stack.project / model)
        published.check_accuracy(found, declared.gate.accuracy_kept)
        return Served.model_validate({"path": model.rstrip("/"), "version": found.version})
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        fix = "Name a directory below the project's, a version, or models:/NAME@ALIAS"
        raise DeclarationError("MODEL", f"got {model!r}", said.rstrip("."), fix) from None


def registered_name(text: str) -> str:
    """Return *text*, which is what a model can be called in the registry.

    Raises:
        DeclarationError: it is not.
    """
    if not re.fullmatch(REGISTERED, text):
        want, fix = "a model of the registry is NAME@ALIAS or NAME/NUMBER", "Write it like models:/digits@champion"
        raise DeclarationError("MODEL", f"got {text!r}", want, fix)
    return text


def registered_model(stack: Stack, server: str, name: str, directory: Path, sha256: str) -> Served:
    """Return what *server* is to serve: the model in *directory*, which has that *name* in the registry now.

    Args:
        sha256: Of its model.json, as it was registered.

    Raises:
        WorkloadError: it is not as good as the server asks.
    """
    found = published.read(directory)
    published.check_accuracy(found, stack.fleet.servers[server].gate.accuracy_kept)
    return Served(registered=name, version=found.version, sha256=sha256)


def declared_version(stack: Stack, server: str) -> str | None:
    """Return the version that *server* is declared to serve; None where nobody can tell it here."""
    model = stack.fleet.servers[server].model
    if model.version is not None or model.path is None:
        return model.version
    try:
        return published.read(stack.project / model.path).version
    except WorkloadError:
        return None

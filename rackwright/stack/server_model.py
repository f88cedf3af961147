"""The model of a server, by directory, by version, or by its name in the registry."""

import re
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.fleet.problems import problems_of
from rackwright.schema.server import REGISTERED, ServedModel
from rackwright.stack.stack import Stack
from workloads.serving import model as model_directory


def model_to_serve(stack: Stack, server: str, model: str) -> ServedModel:
    """Return the declaration of *model* for *server*: a directory of this computer, or a version of its present model.

    Raises:
        DeclarationError: *model* is neither.
        UserError: the directory holds no model, or one that fails the server's gate.
    """
    declared = stack.fleet.servers[server]
    try:
        if re.fullmatch(r"[0-9a-f]{12}", model) and not (stack.project / model).exists():
            return ServedModel.model_validate(declared.model.of_version(model).model_dump())
        candidate = model_directory.read(stack.project / model)
        model_directory.check_files((stack.project / model).resolve(), candidate)
        model_directory.check_accuracy(candidate, declared.gate.accuracy_kept)
        return ServedModel.model_validate({"path": model.rstrip("/"), "version": candidate.version})
    except ValidationError as error:
        problem, _ = next(iter(problems_of(ServedModel, error.errors(include_url=False))))
        help = "Name a directory below the project's, a version, or models:/NAME@ALIAS"
        raise DeclarationError(replace(problem.at("MODEL"), help=help)) from None


def registered_name(text: str) -> str:
    """Return *text*, a valid reference to a model of the registry.

    Raises:
        DeclarationError: *text* has another form.
    """
    if not re.fullmatch(REGISTERED, text):
        expected, help = "a model of the registry is NAME@ALIAS or NAME/NUMBER", "Write it like models:/digits@champion"
        raise DeclarationError(Diagnostic("MODEL", f"got {text!r}", expected, help))
    return text


def registered_model(stack: Stack, server: str, name: str, directory: Path, sha256: str) -> ServedModel:
    """Return the declaration of the model in *directory*, to which the registry's *name* now points, for *server*.

    Args:
        sha256: Digest of the registered model.json.

    Raises:
        UserError: the model fails the server's gate.
    """
    candidate = model_directory.read(directory)
    model_directory.check_files(directory, candidate)
    model_directory.check_accuracy(candidate, stack.fleet.servers[server].gate.accuracy_kept)
    return ServedModel(registered=name, version=candidate.version, sha256=sha256)


def declared_version(stack: Stack, server: str) -> str | None:
    """Return the declared version of the model of *server*; None if this computer cannot know it."""
    model = stack.fleet.servers[server].model
    if model.version is not None or model.path is None:
        return model.version
    try:
        return model_directory.read(stack.project / model.path).version
    except UserError:
        return None

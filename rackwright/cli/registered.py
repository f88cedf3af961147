"""Registered models for `rackwright server`: their names are resolved, and the models fetched to this computer."""

import os
from typing import TYPE_CHECKING

from rackwright.cli import project
from rackwright.errors import DeclarationError, Diagnostic, command
from rackwright.schema.server import ServedModel
from rackwright.stack import Stack, server_model
from workloads.quantize import versions
from workloads.tracking import connect, registry
from workloads.tracking.server import TrackingRefused

if TYPE_CHECKING:
    from rackwright.cli.json_types import FetchedModel


def name_in(stack: Stack, server: str, model: str | None) -> str | None:
    """Return the registered name *model*, by default that of *server*; None if *model* is no registered name.

    Raises:
        DeclarationError: The server has no registered name, or the name is wrong.
    """
    if model is not None and not model.startswith(versions.PREFIX):
        return None
    declared = stack.fleet.servers[server].model.registered
    if model is None and declared is None:
        problem = f"the argument is missing, and server {server} has no registered name"
        expected = f"a directory in the project, a version, or {versions.PREFIX}NAME@ALIAS"
        raise DeclarationError(Diagnostic("MODEL", problem, expected, "Name the model to serve"))
    return server_model.registered_name(model.removeprefix(versions.PREFIX)) if model is not None else declared


def model_to_serve(stack: Stack, server: str, name: str, tracking: str) -> ServedModel:
    """Fetch the model that *name* resolves to in the registry now, and return it as the model of *server*.

    Raises:
        UserError: There is no such model, it fails the server's gate, or the registry does not answer.
    """
    tracking_server = connect(tracking, os.environ)
    version = registry.find(tracking_server, name)
    directory = versions.bring(tracking_server, version, registry.cache_directory())
    project.notify(f"{name} is {version}")
    return server_model.registered_model(stack, server, name, directory, version.tags[registry.CHECKPOINT])


def servers_with_registered_model(stack: Stack, server: str | None) -> list[str]:
    """Return the servers of *stack* with a registered model; with *server*, only that one.

    Raises:
        DeclarationError: There is none.
    """
    candidates = stack.fleet.servers if server is None else [server]
    names = [name for name in candidates if stack.fleet.servers[name].model.registered]
    if not names:
        where = f"stack {stack.name}" if server is None else f"servers.{server}.model"
        problem, expected = "no registered model is declared", "registered: NAME@ALIAS"
        name = f"{versions.PREFIX}NAME@ALIAS"
        promote = command("rackwright server promote {} {} {}", stack.name, server or "SERVER", name)
        raise DeclarationError(Diagnostic(where, problem, expected, f"Declare one, or run {promote}"))
    return names


def fetch(stack: Stack, server: str, tracking: str) -> "FetchedModel":
    """Fetch the registered model of *server* to this computer, and return its server, version and directory.

    Raises:
        DeclarationError: The declaration has no sha256 of the model.
        UserError: The registry no longer has the model, or does not answer.
    """
    model = stack.fleet.servers[server].model
    if model.sha256 is None:
        promote = command("rackwright server promote {} {}", stack.name, server)
        help = f"Run {promote}, which writes it and fetches the model"
        problem, expected = "the registered model has no sha256", "the sha256 that identifies its files"
        raise DeclarationError(Diagnostic(f"servers.{server}.model", problem, expected, help))
    directory = versions.find_local(model.sha256, registry.cache_directory())
    if directory is None:
        tracking_server = connect(tracking, os.environ)
        name = versions.name_of(str(model.registered))
        version = registry.find_by_checkpoint(tracking_server, model.sha256, name)
        if version is None:
            problem = f"{tracking_server.url} has no version of {name} with sha256 {model.sha256[:12]}…"
            help = "Restore the version in the registry, or promote another model"
            raise TrackingRefused(Diagnostic(f"servers.{server}.model", problem, help=help))
        directory = versions.bring(tracking_server, version, registry.cache_directory())
        project.notify(f"{server}: fetched {version}")
    return {"server": server, "version": str(model.version), "directory": str(directory)}

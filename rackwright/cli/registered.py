"""Models of the registry for `rackwright server`: which one a name leads to, brought to this computer."""

import os

from rackwright.cli import project
from rackwright.errors import DeclarationError, command
from rackwright.schema.server import ServedModel
from rackwright.stack import Stack, server_model
from workloads.quantize import versions
from workloads.tracking import connect, registry
from workloads.tracking.server import TrackingRefused


def name_in(stack: Stack, server: str, model: str | None) -> str | None:
    """Return the name in the registry that *model* is, without one that of *server*; None where it is something else.

    Raises:
        DeclarationError: there is none, or it is no such name.
    """
    if model is not None and not model.startswith(versions.PREFIX):
        return None
    declared = stack.fleet.servers[server].model.registered
    if model is None and declared is None:
        got, want = "got none", f"server {server} has no registered model, whose name could be looked up again"
        fix = f"Name a directory below the project's, a version, or {versions.PREFIX}NAME@ALIAS"
        raise DeclarationError("MODEL", got, want, fix)
    return server_model.registered_name(model.removeprefix(versions.PREFIX)) if model is not None else declared


def model_to_serve(stack: Stack, server: str, name: str, tracking: str) -> ServedModel:
    """Return what *server* is to serve: the model that has that *name* in the registry now, which is here then.

    Raises:
        WorkloadError: there is none, it is not as good as the server asks, or the registry does not answer.
    """
    asked = connect(tracking, os.environ)
    version = registry.find(asked, name)
    directory = versions.bring(asked, version, registry.cache_directory())
    project.say(f"{name} is {version}")
    return server_model.registered_model(stack, server, name, directory, version.tags[registry.CHECKPOINT])


def of(stack: Stack, server: str | None) -> list[str]:
    """Return the servers of *stack* whose model is registered; of one that is named, that it is such a server.

    Raises:
        DeclarationError: there is none.
    """
    several = stack.fleet.servers if server is None else [server]
    found = [name for name in several if stack.fleet.servers[name].model.registered]
    if not found:
        where = f"stack {stack.name}" if server is None else f"servers.{server}.model"
        fix = "Write registered: NAME@ALIAS, or promote one"
        raise DeclarationError(where, "got no registered model", "those are fetched", fix)
    return found


def fetched(stack: Stack, server: str, tracking: str) -> dict[str, str]:
    """Bring the registered model of *server* to this computer, and return what it is and where.

    Raises:
        DeclarationError: which model it was is not declared.
        WorkloadError: the registry has it no more, or does not answer.
    """
    model = stack.fleet.servers[server].model
    if model.sha256 is None:
        want = "a registered model is fetched by its sha256"
        promote = command("rackwright server promote {} {}", stack.name, server)
        fix = f"Run {promote}, which writes it and fetches the model"
        raise DeclarationError(f"servers.{server}.model", "got no sha256", want, fix)
    there = versions.find_local(model.sha256, registry.cache_directory())
    if there is None:
        asked = connect(tracking, os.environ)
        name = versions.name_of(str(model.registered))
        version = registry.find_by_checkpoint(asked, model.sha256, name)
        if version is None:
            got, want = f"got sha256 {model.sha256[:12]}…", f"{asked.url} has a version of {name} with it"
            raise TrackingRefused(f"servers.{server}.model", got, want, "Ask who has deleted it, or promote another")
        there = versions.bring(asked, version, registry.cache_directory())
        project.say(f"{server}: fetched {version}")
    return {"server": server, "version": str(model.version), "directory": str(there)}

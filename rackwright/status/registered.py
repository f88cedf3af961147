"""The versions that the names of registered models resolve to now, compared with the declared models."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from typing_extensions import TypedDict  # pydantic reads no other one on Python 3.11

from rackwright.errors import UserError, command
from rackwright.schema.server import ServedModel
from rackwright.stack import Stack
from workloads.tracking import connect, registry
from workloads.tracking.server import URL

NO_SERVER = f"neither --tracking nor {URL} names a server"


class ResolvedNameData(TypedDict):
    """The version that the name of a registered model resolves to."""

    name: str
    """The declared name: `digits-int8@champion`."""
    version: str | None
    """The version of that name in the registry: `digits-int8/8`; null if it is unknown."""
    is_declared: bool | None
    """Whether that version is the declared model; null if this is unknown."""
    unknown: str | None
    """Reason why a value is unknown."""


@dataclass(frozen=True)
class ResolvedName:
    """The version that the name of a registered model resolves to, as far as it is known.

    Nothing that is declared depends on it.
    """

    name: str
    """The declared name: ``digits-int8@champion``."""
    version: str | None = None
    """The version of that name in the registry: ``digits-int8/8``; None if it is unknown."""
    declared: bool | None = None
    """Whether that version is the declared model; None if this is unknown."""
    why: str | None = None
    """The reason why a value is unknown."""

    def as_json(self) -> ResolvedNameData:
        return {"name": self.name, "version": self.version, "is_declared": self.declared, "unknown": self.why}

    def __str__(self) -> str:
        if self.version is None:
            return f"the version of {self.name} is unknown: {self.why}"
        if self.declared is None:
            return f"{self.name} is {self.version}; whether that is the declared model is unknown: {self.why}"
        number = "" if self.name == self.version else f"{self.version}, "
        return f"{self.name} is {number}{'as declared' if self.declared else 'another model by now'}"


def resolve_names(stack: Stack, url: str, no_server: str = NO_SERVER) -> Mapping[str, ResolvedName]:
    """Return the resolved names of the registered models of *stack*, by server; see `resolve_name`."""
    models = {name: server.model for name, server in stack.fleet.servers.items()}
    return {name: resolve_name(model, url, no_server) for name, model in models.items() if model.registered}


def resolve_name(model: ServedModel, url: str, no_server: str = NO_SERVER) -> ResolvedName:
    """Return the version that the name of a registered *model* resolves to.

    Args:
        url: The URL of the MLflow server; if it is empty, no server is asked.
        no_server: The reason why no server is asked.
    """
    name = str(model.registered)
    if not url:
        return ResolvedName(name, why=no_server)
    try:
        version = registry.find(connect(url, os.environ), name)
    except UserError as error:
        return ResolvedName(name, why=str(error))
    if model.sha256 is None:
        return ResolvedName(name, str(version), why="the declared version has no sha256")
    return ResolvedName(name, str(version), version.tags.get(registry.CHECKPOINT) == model.sha256)


def notices(resolved_names: Mapping[str, ResolvedName], stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield each server of *stack* whose name does not resolve to the declared model, with a notice about it."""
    for server, resolved in resolved_names.items():
        if resolved.declared is False:
            yield server, f"{resolved}: {command('rackwright server promote {} {}', stack.name, server)} takes it"
        elif not resolved.declared:
            yield server, str(resolved)

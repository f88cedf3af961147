"""Where the names of registered models lead now, beside the models that servers are declared to have by them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rackwright.errors import command
from rackwright.schema.server import ServedModel
from rackwright.stack import Stack
from workloads.errors import WorkloadError
from workloads.tracking import connect, registry
from workloads.tracking.server import URL

NOT_ASKED = f"neither --tracking nor {URL} names a server"


@dataclass(frozen=True)
class Lead:
    """Where a name leads, as far as is known. Nothing that is declared depends on it."""

    name: str
    """As it is declared: ``digits-int8@champion``."""
    version: str | None = None
    """What the registry has by that name: ``digits-int8/8``; None where that is not known."""
    declared: bool | None = None
    """Whether that is the model that is declared; None where nobody can tell."""
    why: str | None = None
    """Why something is not known."""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "leads_to": self.version, "declared": self.declared, "unknown": self.why}

    def __str__(self) -> str:
        if self.version is None:
            return f"where {self.name} leads is not known: {self.why}"
        if self.declared is None:
            return f"{self.name} is {self.version}; whether that is declared is not known: {self.why}"
        number = "" if self.name == self.version else f"{self.version}, "
        return f"{self.name} is {number}{'as declared' if self.declared else 'another model by now'}"


def leads(stack: Stack, url: str, why_not: str = NOT_ASKED) -> Mapping[str, Lead]:
    """Return where the names of all servers of *stack* that have one lead, by server; see `lead`."""
    models = {name: server.model for name, server in stack.fleet.servers.items()}
    return {name: lead(model, url, why_not) for name, model in models.items() if model.registered}


def lead(model: ServedModel, url: str, why_not: str = NOT_ASKED) -> Lead:
    """Return where the name of a registered *model* leads.

    Args:
        url: Of the MLflow server; empty: it is not asked.
        why_not: Why it is not asked then.
    """
    name = str(model.registered)
    if not url:
        return Lead(name, why=why_not)
    try:
        version = registry.find(connect(url, os.environ), name)
    except WorkloadError as error:
        return Lead(name, why=str(error))
    if model.sha256 is None:
        return Lead(name, str(version), why="no sha256 stands beside the declared version")
    return Lead(name, str(version), version.tags.get(registry.CHECKPOINT) == model.sha256)


def notices(leads: Mapping[str, Lead], stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield a server of *stack* and what is to be said of its name, where that does not lead to what is declared."""
    for server, lead in leads.items():
        if lead.declared is False:
            yield server, f"{lead}: {command('rackwright server promote {} {}', stack.name, server)} takes it"
        elif not lead.declared:
            yield server, str(lead)

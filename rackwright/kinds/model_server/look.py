"""Where a server's properties are found in the facts."""

from typing import Any

from rackwright.facts.facts import Facts
from rackwright.facts.server import Server
from rackwright.facts.view import NotKnown
from rackwright.kinds import observing
from rackwright.kinds.contract import Absent, Value
from rackwright.kinds.model_server.spec import ServerSpec

WHOLE = "whole"


def look(facts: Facts, sort: str, key: str, name: str, claim: object) -> Value:
    match sort:
        case "model":
            return _model(facts, *key.split("/"))
        case "server":
            return _server(facts, key, name)
        case _:
            return observing.standing(facts, sort, key, name)


def _model(facts: Facts, name: str, version: str) -> Value:
    server = facts.server(name)
    found = server.models.get(version) if server else None
    return Absent() if found is None else found


def _server(facts: Facts, name: str, what: str) -> Value:
    server = facts.server(name)
    if server is None:
        return Absent()
    if what == "outcome":
        return outcome(facts, name, server)
    found = server.release if what == "release" else server.version
    return Absent() if found is None else found


def outcome(facts: Facts, name: str, server: Server) -> str:
    """Return how it is with a server: ready, or stopped, failed, not ready."""
    if server.ready:
        return "ready"
    unit = facts.unit(f"server-{name}.service")
    states = {"failed": "failed", "inactive": "stopped"}
    return "stopped" if unit is None else states.get(unit.active, "not ready")


def report(spec: ServerSpec, facts: Facts) -> dict[str, Any]:
    """Return what is served here, what was before, and how fast: percentiles since the server's start, its queue."""
    try:
        server = facts.server(spec.name)
        if server is None:
            return {}
        told: dict[str, Any] = {"outcome": outcome(facts, spec.name, server), "version": server.version}
        told |= {"release": server.release, "models": sorted(server.models), "previous": server.previous}
        told |= {"refused": server.refused} if server.refused else {}
        told |= {"why": server.why} if server.why else {}
    except NotKnown as reason:
        return {"unknown": str(reason)}
    try:
        return told | dict(server.figures)
    except NotKnown as reason:
        return told | {"figures": f"unknown: {reason}"}

"""Where a server's properties are found in the facts."""

from typing import Any

from rackwright.core.contract import Absent, Claim, Value
from rackwright.facts.facts import Facts
from rackwright.facts.server import Server
from rackwright.facts.view import UnknownFact
from rackwright.kinds.model_server.spec import ServerSpec, WatchPart
from rackwright.kinds.shared import observation

WHOLE = "whole"
LATE = 2
"""An accuracy is not known any more when so many looks did not come to anything, or did not take place."""


def look(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "model":
            return _model(facts, *key.split("/"))
        case "server":
            return _server(facts, key, name, claim)
        case _:
            return observation.service(facts, sort, key, name)


def _model(facts: Facts, name: str, version: str) -> Value:
    server = facts.server(name)
    found = server.models.get(version) if server else None
    return Absent() if found is None else found


def _server(facts: Facts, name: str, what: str, claim: Claim) -> Value:
    server = facts.server(name)
    if server is None:
        return Absent()
    if what == "outcome":
        return outcome(facts, name, server)
    if what == "refused":
        return _refused(server, claim)
    found = server.release if what == "release" else server.version
    return Absent() if found is None else found


def _refused(server: Server, claim: Claim) -> str:
    """Return why the declared release does not serve here, as the host has noted it, or `no`."""
    refused = server.failed_release
    return refused["why"] if refused and refused["release"] == claim.want["release"] else "no"


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
        told |= {"refused": server.failed_release} if server.failed_release else {}
        told |= {"why": server.why} if server.why else {}
        told |= {"accuracy": accuracy(spec.watch, server, facts)} if spec.watch else {}
    except UnknownFact as reason:
        return {"unknown": str(reason)}
    try:
        return told | dict(server.figures)
    except UnknownFact as reason:
        return told | {"figures": f"unknown: {reason}"}


def accuracy(watch: WatchPart, server: Server, facts: Facts) -> dict[str, Any]:
    """Return how much of the canary was right at the last look and a day before, and what is to be said of it.

    What was found out too long ago is known no more: `unknown` says so.
    """
    try:
        noted = server.accuracy
    except UnknownFact as reason:
        return {"unknown": str(reason)}
    if noted is None or noted["found"] is None:
        return {"unknown": (noted or {}).get("why_not") or "nobody has looked yet"}
    found, before = noted["found"], noted["before"]
    age = max(0, int(facts.taken_at - found["at"]))
    told: dict[str, Any] = {"accuracy": found["accuracy"], "asked": noted["least"], "age_seconds": age}
    told["low"] = found["accuracy"] < noted["least"]
    if before:
        moved_by = round(found["accuracy"] - before["accuracy"], 9)
        told |= {"before": before["accuracy"], "before_age_seconds": int(facts.taken_at - before["at"])}
        told |= {"moved_by": moved_by, "moved": abs(moved_by) > watch.change}
    if noted["why_not"]:
        told["why_not"] = noted["why_not"]
    if age > LATE * watch.every_seconds:
        told["unknown"] = noted["why_not"] or "the last look is too long ago"
    return told

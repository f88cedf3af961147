"""The observation of a server's properties, and its report."""

from collections.abc import Mapping
from typing import Any

from rackwright.core.contract import Absent, Claim, Value
from rackwright.facts.facts import Facts
from rackwright.facts.server import ServerFacts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.model_server import adapters
from rackwright.kinds.model_server.spec import ServerSpec, unit_of
from rackwright.kinds.shared import firewall, gpu_assignment, loaded, observation
from rackwright.schema.server import Canary

WHOLE = "whole"
MANIFEST = "model.json"
LATE = 2
"""Failed or missing canary checks after which the accuracy counts as unknown."""


def observe_property(facts: Facts, sort: str, key: str, name: str, claim: Claim) -> Value:
    match sort:
        case "model":
            return observe_model(facts, key, name)
        case "server_files":
            return _server_files(facts, key, name, claim)
        case "server":
            return _server(facts, key, name, claim)
        case "gpu_assignment":
            return gpu_assignment.observe(facts, key, name)
        case "adapters":
            return adapters.observe(facts, key, name, claim)
        case "nftables":
            return firewall.observe(facts, key, claim)
        case "package":
            return observation.package(facts, key, name)
        case loaded.SORT:
            return loaded.observe(facts, key, name)
        case _:
            return observation.service(facts, sort, key, name)


def model_claim(name: str, version: str, files: Mapping[str, str]) -> Claim:
    """Return the claim that a model is whole; its model.json is that of this computer, if that has the model.

    The version follows from the digests of the model's files, and not from the other lines of model.json.
    """
    manifest = {"manifest": files[MANIFEST]} if MANIFEST in files else {}
    return Claim(f"model:{name}/{version}", {"files": WHOLE, **manifest})


def observe_model(facts: Facts, key: str, name: str) -> Value:
    """Return a property of the model *key*, ``SERVER/VERSION``: state of its files, or digest of its manifest."""
    server_name, version = key.split("/")
    server = facts.server(server_name)
    if server is None:
        return Absent()
    return (server.manifests if name == "manifest" else server.models).get(version, Absent())


def is_whole(server: ServerFacts | None, version: str, files: Mapping[str, str]) -> bool:
    """Return whether the host has the model, with the model.json of this computer if that has the model."""
    if server is None or server.models.get(version) != WHOLE:
        return False
    return MANIFEST not in files or server.manifests.get(version) == files[MANIFEST]


def _server_files(facts: Facts, key: str, name: str, claim: Claim) -> Value:
    """Return the files that no release uses, or whether the record of releases or the canary's rows are whole."""
    server = facts.server(key)
    if server is None:
        return Absent()
    if name == "others":
        return server.others
    if name == "state":
        return WHOLE if server.has_state else Absent()
    file = str(claim.want["rows"]).partition(":")[0]
    return f"{file}: {server.canary_rows[file]}" if file in server.canary_rows else Absent()


def _server(facts: Facts, key: str, name: str, claim: Claim) -> Value:
    server = facts.server(key)
    if server is None:
        return Absent()
    if name == "outcome":
        return outcome(facts, key, server)
    if name == "refused":
        return _refusal_reason(server, claim)
    value = server.release if name == "release" else server.version
    return Absent() if value is None else value


def _refusal_reason(server: ServerFacts, claim: Claim) -> str:
    """Return the reason why the host refused the declared release, or `no`."""
    refusal = server.failed_release
    return refusal["why"] if refusal and refusal["release"] == claim.want["release"] else "no"


def outcome(facts: Facts, name: str, server: ServerFacts) -> str:
    """Return the state of a server: ready, stopped, failed or not ready."""
    if server.ready:
        return "ready"
    unit = facts.unit(unit_of(name))
    states = {"failed": "failed", "inactive": "stopped"}
    return "stopped" if unit is None else states.get(unit.active, "not ready")


def report(spec: ServerSpec, facts: Facts) -> dict[str, Any]:
    """Return the present and previous release, and latency percentiles and queue since the server's start."""
    try:
        server = facts.server(spec.name)
        if server is None:
            return {}
        report: dict[str, Any] = {"outcome": outcome(facts, spec.name, server), "version": server.version}
        report |= {"release": server.release, "models": sorted(server.models), "previous": server.previous}
        report |= {"refused": server.failed_release} if server.failed_release else {}
        report |= {"why": server.why} if server.why else {}
        report |= {"accuracy": accuracy(spec.watch, server, facts)} if spec.watch else {}
    except UnknownFact as reason:
        return {"unknown": str(reason)}
    try:
        return report | dict(server.figures)
    except UnknownFact as reason:
        return report | {"figures": f"unknown: {reason}"}


def accuracy(watch: Canary, server: ServerFacts, facts: Facts) -> dict[str, Any]:
    """Return the canary's accuracy at the last check and a day before, and whether it is low or has moved.

    The key `unknown` says that the last check is too old.
    """
    try:
        record = server.accuracy
    except UnknownFact as reason:
        return {"unknown": str(reason)}
    if record is None or record["found"] is None:
        return {"unknown": (record or {}).get("why_not") or "no canary check has run yet"}
    last, before = record["found"], record["before"]
    age = max(0, int(facts.taken_at - last["at"]))
    report: dict[str, Any] = {"accuracy": last["accuracy"], "asked": record["least"], "age_seconds": age}
    report["low"] = last["accuracy"] < record["least"]
    if before:
        moved_by = round(last["accuracy"] - before["accuracy"], 9)
        report |= {"before": before["accuracy"], "before_age_seconds": int(facts.taken_at - before["at"])}
        report |= {"moved_by": moved_by, "moved": abs(moved_by) > watch.change}
    if record["why_not"]:
        report["why_not"] = record["why_not"]
    if age > LATE * (watch.every_seconds or 0):
        report["unknown"] = record["why_not"] or "the last canary check is too long ago"
    return report

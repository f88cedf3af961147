"""Model servers that were put on this host: what each has been told to run, and what it says itself."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

from rackwright.facts.probe.look import Unreadable, attempt, listing, read

SERVERS = "/etc/rackwright/servers"
SECONDS = 3
HASHED_BYTES = 64 << 20
"""Of a model's files so many are read and hashed in all; beyond that their sizes are compared. The server itself reads
and hashes all of them at each start."""
ASKED = r'route="[^"]*/(?:infer|completions)"'
ROUTE = re.compile(rf'rackwright_server_request_seconds_bucket\{{le="([^"]+)",{ASKED}\}} (\S+)')
ANSWERED = re.compile(rf"^rackwright_server_requests_total\{{{ASKED},.*\}} (\S+)$", re.MULTILINE)
WAITING = re.compile(r"^rackwright_server_queue_requests (\S+)", re.MULTILINE)


def servers(root: str) -> dict[str, Any]:
    names = [name for name in listing(root + SERVERS) if os.path.exists(f"{root}{SERVERS}/{name}/server.json")]
    return {name: attempt(server, root, f"{SERVERS}/{name}") for name in names}


def server(root: str, folder: str) -> dict[str, Any]:
    plan = json.loads(read(f"{root}{folder}/server.json"))
    lib = root + plan["lib"]
    state = json.loads(read(f"{lib}/state.json")) if os.path.exists(f"{lib}/state.json") else {}
    return {
        "release": pointed(f"{lib}/current"),
        "previous": version_of(lib, state.get("previous")),
        "refused": state.get("refused"),
        "accuracy": attempt(accuracy, f"{lib}/watch.json"),
        "models": {name: attempt(model, f"{lib}/models/{name}") for name in listing(f"{lib}/models", "[0-9a-f]*")},
        **answer(plan),
        "figures": attempt(figures, root, plan),
    }


def pointed(link: str) -> str | None:
    return os.path.basename(os.readlink(link)) if os.path.islink(link) else None


def version_of(lib: str, release: str | None) -> str | None:
    """Return the version of the model of a release that is kept."""
    path = f"{lib}/releases/{release}/release.json"
    return str(json.loads(read(path))["version"]) if release and os.path.exists(path) else None


def accuracy(path: str) -> dict[str, Any] | None:
    """Return what a watch has noted last; None where none has noted anything."""
    if not os.path.exists(path):
        return None
    told: dict[str, Any] = json.loads(read(path))
    return {name: told[name] for name in ("found", "before", "least", "why_not")}


def model(folder: str) -> str:
    """Return `whole`, or what is wrong with a model's files."""
    left = HASHED_BYTES
    for name, told in sorted(json.loads(read(f"{folder}/model.json"))["files"].items()):
        path = f"{folder}/{name}"
        if not os.path.isfile(path):
            return f"{name} is not there"
        size = os.path.getsize(path)
        if size != told["bytes"]:
            return f"{name} has {size} bytes, not {told['bytes']}"
        left -= size
        if left >= 0:
            with open(path, "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != told["sha256"]:
                    return f"{name} is not what was published"
    return "whole"


def answer(plan: dict[str, Any]) -> dict[str, Any]:
    """Return whether the server is ready, and with which version; that nobody answers is an answer."""
    try:
        status, told = ask(plan, "/ready")
        return {"ready": status == 200, "version": json.loads(told).get("version"), "why": None if status == 200 else
                f"it answers {status}"}  # fmt: skip
    except Exception as error:  # whatever it is that listens there: it is no server that is ready
        return {"ready": False, "version": None, "why": f"it does not answer: {error}"}


def ask(plan: dict[str, Any], path: str, key: str = "") -> tuple[int, bytes]:
    import http.client  # here: most hosts have no server, and these take longer to import than much of a look
    import ssl

    place = plan["host"], plan["port"]
    connection: http.client.HTTPConnection
    if plan["tls"]:
        # who is asked is this host itself, by its address: its certificate is for others
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(*place, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(*place, timeout=SECONDS)
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        answered = connection.getresponse()
        return answered.status, answered.read()
    finally:
        connection.close()


def figures(root: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Return what it counts since its start."""
    key = read(root + plan["key"]) if plan["key"] else ""
    try:
        status, told = ask(plan, "/metrics", key)
    except OSError as error:
        raise Unreadable(f"it does not answer: {error}") from None
    if status != 200:
        raise Unreadable(f"it answers {status}")
    text = told.decode()
    buckets: dict[float, float] = {}
    for edge, count in ROUTE.findall(text):
        buckets[float(edge)] = buckets.get(float(edge), 0) + float(count)
    found = {"requests": int(sum(map(float, ANSWERED.findall(text)))), "p50_ms": percentile(buckets, 0.5)}
    waiting = WAITING.search(text)
    return {**found, "p99_ms": percentile(buckets, 0.99), "waiting": int(float(waiting[1])) if waiting else None}


def percentile(buckets: dict[float, float], share: float) -> float | None:
    """Return below how many milliseconds *share* of all requests were, as finely as the buckets are; None for none."""
    total = max(buckets.values(), default=0)
    edges = [edge for edge, count in sorted(buckets.items()) if total and count >= share * total]
    return round(edges[0] * 1000, 3) if edges and edges[0] != float("inf") else None

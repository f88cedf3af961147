"""Model servers that were put on this host: what each has been told to run, and what it says itself."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import re
import socket
import stat
import struct
import time
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, listing, read, tool

SERVERS = "/etc/rackwright/servers"
SECONDS = 3
"""For one answer, as a whole."""
ANSWER_BYTES = 1 << 20
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
        **answer(root, plan),
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


def answer(root: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Return whether the server is ready, and with which version; that it does not answer is an answer."""
    try:
        status, told = ask(root, plan, "/ready")
        return {"ready": status == 200, "version": json.loads(told).get("version"), "why": None if status == 200 else
                f"it answers {status}"}  # fmt: skip
    except Exception as error:  # whatever answers there: it is no server that is ready
        return {"ready": False, "version": None, "why": f"it does not answer: {error}"}


def ask(root: str, plan: dict[str, Any], path: str, key: str = "") -> tuple[int, bytes]:
    """Return the status and the body of the server's answer, which comes over a socket that only its account has.

    Raises:
        OSError: its unit does not run, the socket is not its account's, or there is no whole answer in time.
    """
    import http.client  # here: most hosts have no server, and these take longer to import than much of a look
    import threading

    if "socket" not in plan:
        raise OSError("its server.json is of an earlier version of rackwright; `rackwright up` writes another")
    state = tool("systemctl", "show", "--property=ActiveState", "--value", plan["unit"]).strip()
    if state != "active":
        raise OSError(f"{plan['unit']} is {state or 'not known'}")
    end = time.monotonic() + SECONDS
    connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
    connection.sock = connected = connect(root + plan["socket"], pwd.getpwnam(plan["account"]).pw_uid)
    # the timeout of a socket begins again with each byte; this one does not
    deadline = threading.Timer(SECONDS, end_connection, [connected])
    deadline.start()
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        answered = connection.getresponse()
        content = answered.read(ANSWER_BYTES + 1)
        if len(content) > ANSWER_BYTES:
            raise OSError(f"its answer has more than {ANSWER_BYTES} bytes")
        if answered.length or time.monotonic() >= end:
            raise OSError(f"no whole answer within {SECONDS} s")
        return answered.status, content
    except http.client.HTTPException as error:
        raise OSError(f"no whole answer: {type(error).__name__}") from None
    finally:
        deadline.cancel()
        connection.close()


def end_connection(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has just ended by itself
        connected.shutdown(socket.SHUT_RDWR)


def connect(path: str, uid: int) -> socket.socket:
    """Return a connection to the Unix socket *path* of the account *uid*, which no other account can have put there.

    The account may replace the socket by a link to another service's: links are not followed, and what is opened is
    what is connected to. The kernel says whose process listens.

    Raises:
        OSError: it is no socket, or another account's.
    """
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != uid:
            raise OSError(f"{path} is no socket of the account {uid}")
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(SECONDS)
            connected.connect(f"/proc/self/fd/{place}")
            peer = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if peer != uid:
                raise OSError(f"a process of the account {peer} listens at {path}, not one of {uid}")
        except BaseException:
            connected.close()
            raise
        return connected
    finally:
        os.close(place)


def figures(root: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Return what it counts since its start."""
    key = read(root + plan["key"]) if plan["key"] else ""
    try:
        status, told = ask(root, plan, "/metrics", key)
    except OSError as error:
        raise ReadError(f"it does not answer: {error}") from None
    if status != 200:
        raise ReadError(f"it answers {status}")
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

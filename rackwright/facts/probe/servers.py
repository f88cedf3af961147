"""The model servers on this host: their configured releases, and the state that each server reports."""

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

from rackwright.facts.probe.observe import ReadError, attempt, listing, read, run_tool

SERVERS = "/etc/rackwright/servers"
SECONDS = 3
"""Time limit for one complete answer."""
ANSWER_BYTES = 1 << 20
HASHED_BYTES = 64 << 20
"""Maximum number of bytes of a model's files that are hashed; for further files only the sizes are compared. The server
itself hashes all files at each start."""
SHOWN = 200
"""Maximum length of a path that is returned."""
MOST_OTHERS = 50
FOLDERS = ("releases", "models", "data", "adapters")
FILES = ("current", "state.json", "watch.json", "lock")
RELEASE = ("release.json", "settings.json", "workloads.zip", "model")
"""Names in a server's directory, and in that of a release. Source: workloads/serving/switch.py."""
PASSING = (
    (re.compile(r"\.[0-9a-f]{12}\.partial"), stat.S_IFDIR),
    (re.compile(r"\.(current|model)\.new"), stat.S_IFLNK),
    (re.compile(r"\.(state|watch)\.json\.[a-z0-9_]{1,16}"), stat.S_IFREG),
)
"""Names and types of copies and files that are being written."""
PASSING_SECONDS = 86400
"""Seconds since the last change after which a copy counts as abandoned."""
VERSION = re.compile(r"[0-9a-f]{12}")
MANIFEST = "model.json"
INFERENCE_ROUTES = r'route="[^"]*/(?:infer|completions)"'
LATENCY_BUCKET = re.compile(rf'rackwright_server_request_seconds_bucket\{{le="([^"]+)",{INFERENCE_ROUTES}\}} (\S+)')
REQUEST_COUNT = re.compile(rf"^rackwright_server_requests_total\{{{INFERENCE_ROUTES},.*\}} (\S+)$", re.MULTILINE)
QUEUE_LENGTH = re.compile(r"^rackwright_server_queue_requests (\S+)", re.MULTILINE)


def servers(root: str) -> dict[str, Any]:
    names = [name for name in listing(root + SERVERS) if os.path.exists(f"{root}{SERVERS}/{name}/server.json")]
    return {name: attempt(server, root, f"{SERVERS}/{name}") for name in names}


def server(root: str, folder: str) -> dict[str, Any]:
    plan = json.loads(read(f"{root}{folder}/server.json"))
    lib = root + plan["lib"]
    state = json.loads(read(f"{lib}/state.json")) if os.path.exists(f"{lib}/state.json") else {}
    return {
        "release": release(lib),
        "previous": version_of(lib, state.get("previous")),
        "refused": state.get("refused"),
        "accuracy": attempt(accuracy, f"{lib}/watch.json"),
        **{sort: models(f"{lib}/{sort}") for sort in ("models", "adapters")},
        "manifests": attempt(manifests, f"{lib}/models"),
        "canary_rows": attempt(canary_rows, f"{lib}/data"),
        "has_state": "previous" in state,
        "others": attempt(others, lib, state),
        **readiness(root, plan),
        "figures": attempt(figures, root, plan),
    }


def models(folder: str) -> dict[str, Any]:
    """Return the state of the files of each version in a folder of models or adapters."""
    return {name: attempt(model, f"{folder}/{name}") for name in versions(folder)}


def versions(folder: str) -> list[str]:
    """Return the names of versions in a folder of models or adapters."""
    return [name for name in listing(folder) if VERSION.fullmatch(name)]


def release(lib: str) -> str | None:
    """Return the release that the link `current` names, with its model if that is not the release's own.

    A link to another place is returned as it is: a directory elsewhere may have the name of a release.
    """
    target = link_target(f"{lib}/current")
    if target is None:
        return None
    name = os.path.basename(target)
    if target != f"releases/{name}":
        return target[:SHOWN]
    model, version = link_target(f"{lib}/{target}/model"), version_of(lib, name)
    return name if model == f"../../models/{version}" else f"{name} with the model {model}"[:SHOWN]


def link_target(path: str) -> str | None:
    return os.readlink(path) if os.path.islink(path) else None


def manifests(folder: str) -> dict[str, str]:
    """Return the digest of each version's model.json."""
    paths = {name: f"{folder}/{name}/{MANIFEST}" for name in versions(folder)}
    return {name: sha256_of(path) for name, path in paths.items() if type_of(path) == stat.S_IFREG}


def canary_rows(folder: str) -> dict[str, str]:
    """Return the state of the files with a canary's rows, which are named by the beginning of their digest."""
    found = {}
    for name in listing(folder, "*.npz"):
        path = f"{folder}/{name}"
        if type_of(path) != stat.S_IFREG:
            found[name] = "it is no regular file"
            continue
        is_large = os.path.getsize(path) > HASHED_BYTES
        found[name] = "whole" if is_large or sha256_of(path)[:12] == name[: -len(".npz")] else "it has other content"
    return found


def others(lib: str, state: dict[str, Any]) -> list[str]:
    """Return the files below a server's directory that no release of the host uses, by their paths there.

    Releases in use are the current one, the previous one, and the last refused one, which stays until the next switch.
    """
    names = [os.path.basename(link_target(f"{lib}/current") or ""), state.get("previous")]
    names.append((state.get("refused") or {}).get("release"))
    kept = {str(name) for name in names if name and os.path.isfile(f"{lib}/releases/{name}/release.json")}
    declared = [json.loads(read(f"{lib}/releases/{name}/release.json")) for name in kept]
    data = [os.path.basename(each["canary"]["data"]) for each in declared if each.get("canary")]
    expected = {
        "": {*FOLDERS, *FILES},
        "releases": kept,
        "models": {each["version"] for each in declared},
        "adapters": {*versions(f"{lib}/adapters")},
        "data": {*data},
        **{f"releases/{name}": {*RELEASE} for name in kept},
    }
    types = dict.fromkeys(FOLDERS, stat.S_IFDIR) | dict.fromkeys(FILES, stat.S_IFREG) | {"current": stat.S_IFLNK}
    found = [name for name, expected_type in types.items() if type_of(f"{lib}/{name}") not in (None, expected_type)]
    for folder, wanted in expected.items():
        start = f"{folder}/" if folder else ""
        extra = {*listing(f"{lib}/{folder}"), *listing(f"{lib}/{folder}", ".*")} - wanted
        found += [f"{start}{name}" for name in extra if not is_passing(f"{lib}/{start}{name}")]
    return sorted(set(found))[:MOST_OTHERS]


def type_of(path: str) -> int | None:
    """Return the type of a file, of a link itself; None if there is none."""
    return stat.S_IFMT(os.lstat(path).st_mode) if os.path.lexists(path) else None


def is_passing(path: str) -> bool:
    """Return whether *path* is work of the last day that is not finished, by its name, its type and its last change."""
    name = os.path.basename(path)
    try:
        if not any(pattern.fullmatch(name) and type_of(path) == its_type for pattern, its_type in PASSING):
            return False
        paths = [path, *(f"{path}/{child}" for child in (os.listdir(path) if type_of(path) == stat.S_IFDIR else ()))]
        return time.time() - max(os.lstat(each).st_ctime for each in paths) < PASSING_SECONDS
    except FileNotFoundError:  # the work has just ended
        return True


def sha256_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def version_of(lib: str, release: str | None) -> str | None:
    """Return the model version of a release that is still on the host; None if there is no such release."""
    path = f"{lib}/releases/{release}/release.json"
    return str(json.loads(read(path))["version"]) if release and os.path.exists(path) else None


def accuracy(path: str) -> dict[str, Any] | None:
    """Return the latest record of the accuracy watch; None if there is none."""
    if not os.path.exists(path):
        return None
    state: dict[str, Any] = json.loads(read(path))
    return {name: state[name] for name in ("found", "before", "least", "why_not")}


def model(folder: str) -> str:
    """Return `whole`, or the first fault of a model's files."""
    budget = HASHED_BYTES
    if type_of(folder) != stat.S_IFDIR:
        return "it is no directory"
    if type_of(f"{folder}/{MANIFEST}") not in (None, stat.S_IFREG):
        return f"{MANIFEST} is no regular file"
    files = json.loads(read(f"{folder}/{MANIFEST}"))["files"]
    if (version := version_of_files(files)) != os.path.basename(folder):
        return f"model.json is of version {version}"
    if odd := odd_entry(folder, {MANIFEST, *files}):
        return odd
    for name, expected in sorted(files.items()):
        path = f"{folder}/{name}"
        if not os.path.isfile(path):
            return f"{name} is not there"
        size = os.path.getsize(path)
        if size != expected["bytes"]:
            return f"{name} has {size} bytes, not {expected['bytes']}"
        budget -= size
        if budget >= 0:
            with open(path, "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != expected["sha256"]:
                    return f"{name} is not what was published"
    return "whole"


def odd_entry(folder: str, files: set[str]) -> str | None:
    """Return the first fault of the entries below *folder*: another one than *files*, or one of another type."""
    parents = {name[:end] for name in files for end in range(len(name)) if name[end] == "/"}
    for below in ("", *sorted(parents)):
        if type_of(f"{folder}/{below}") is None:
            continue  # its files are reported as missing
        with os.scandir(f"{folder}/{below}") as entries:
            for entry in entries:
                name = f"{below}/{entry.name}" if below else entry.name
                if name not in files and name not in parents:
                    return f"{name[:SHOWN]} is not of the model"
                is_right = entry.is_dir(follow_symlinks=False) if name in parents else is_regular(entry)
                if not is_right:
                    return f"{name[:SHOWN]} is no {'directory' if name in parents else 'regular file'}"
    return None


def is_regular(entry: os.DirEntry[str]) -> bool:
    return stat.S_ISREG(entry.stat(follow_symlinks=False).st_mode)


def version_of_files(files: dict[str, Any]) -> str:
    """Return the version of a model with these files. Source: `version_of` of workloads/serving/model.py."""
    digests = json.dumps({name: each["sha256"] for name, each in sorted(files.items())})
    return hashlib.sha256(digests.encode()).hexdigest()[:12]


def readiness(root: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Return whether the server is ready, its model version, and why it is not ready; a silent server is not ready."""
    try:
        status, body = request(root, plan, "/ready")
        answer = json.loads(body)
        return {"ready": status == 200, "version": answer.get("version"), "why": None if status == 200 else
                f"it answers {status}", "loaded_adapters": answer.get("adapters") or {}}  # fmt: skip
    except Exception as error:  # any other answer than the protocol's means that the server is not ready
        return {"ready": False, "version": None, "why": f"it does not answer: {error}", "loaded_adapters": {}}


def request(root: str, plan: dict[str, Any], path: str, key: str = "") -> tuple[int, bytes]:
    """Return the status and the body of the server's answer, received over a socket of its account.

    Raises:
        OSError: the unit does not run, the socket belongs to another account, or no complete answer arrives in time.
    """
    import http.client  # imported here because most hosts have no server, and the import is slow
    import threading

    if "socket" not in plan:
        raise OSError("an earlier version of rackwright wrote its server.json; run `rackwright up` to update it")
    state = run_tool("systemctl", "show", "--property=ActiveState", "--value", plan["unit"]).strip()
    if state != "active":
        raise OSError(f"{plan['unit']} is {state or 'unknown'}")
    end = time.monotonic() + SECONDS
    connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
    connection.sock = client = connect(root + plan["socket"], pwd.getpwnam(plan["account"]).pw_uid)
    # a socket's timeout starts again with each byte; this deadline does not
    deadline = threading.Timer(SECONDS, end_connection, [client])
    deadline.start()
    try:
        connection.request("GET", path, headers={"authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        content = response.read(ANSWER_BYTES + 1)
        if len(content) > ANSWER_BYTES:
            raise OSError(f"its answer has more than {ANSWER_BYTES} bytes")
        if response.length or time.monotonic() >= end:
            raise OSError(f"no complete answer within {SECONDS} s")
        return response.status, content
    except http.client.HTTPException as error:
        raise OSError(f"no complete answer: {type(error).__name__}") from None
    finally:
        deadline.cancel()
        connection.close()


def end_connection(client: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the connection has just ended by itself
        client.shutdown(socket.SHUT_RDWR)


def connect(path: str, uid: int) -> socket.socket:
    """Return a connection to the Unix socket *path*, which the account *uid* must own.

    The account could replace the socket by a link to the socket of another service. Links are therefore not followed,
    the connection goes to the opened descriptor, and the kernel reports the account of the listening process.

    Raises:
        OSError: it is no socket, or it belongs to another account.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != uid:
            raise OSError(f"{path} is no socket of the account {uid}")
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(SECONDS)
            client.connect(f"/proc/self/fd/{descriptor}")
            peer = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if peer != uid:
                raise OSError(f"a process of the account {peer} listens at {path}, not one of {uid}")
        except BaseException:
            client.close()
            raise
        return client
    finally:
        os.close(descriptor)


def figures(root: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Return the server's request counts and latencies since its start."""
    key = read(root + plan["key"]) if plan["key"] else ""
    try:
        status, body = request(root, plan, "/metrics", key)
    except OSError as error:
        raise ReadError(f"it does not answer: {error}") from None
    if status != 200:
        raise ReadError(f"it answers {status}")
    text = body.decode()
    buckets: dict[float, float] = {}
    for bound, count in LATENCY_BUCKET.findall(text):
        buckets[float(bound)] = buckets.get(float(bound), 0) + float(count)
    counts = {"requests": int(sum(map(float, REQUEST_COUNT.findall(text)))), "p50_ms": percentile(buckets, 0.5)}
    waiting = QUEUE_LENGTH.search(text)
    return {**counts, "p99_ms": percentile(buckets, 0.99), "waiting": int(float(waiting[1])) if waiting else None}


def percentile(buckets: dict[float, float], share: float) -> float | None:
    """Return the upper bound in ms of the bucket that contains the quantile *share*; None without requests."""
    total = max(buckets.values(), default=0)
    bounds = [bound for bound, count in sorted(buckets.items()) if total and count >= share * total]
    return round(bounds[0] * 1000, 3) if bounds and bounds[0] != float("inf") else None

"""Transfer files between a directory of this host and a store, by addresses that the controller has signed.

The host gets no key of the store. Each line of output is a JSON document: progress, a result, or an error. Standard
library only, for Python 3.8 and later.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import json
import os
import socket
import ssl
import stat
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rackwright.tiering.onhost.tree import (
    DeletedInPart,
    TransferFailed,
    delete_file,
    is_text,
    open_directory,
    open_file,
    remove_empty,
    replace_file,
    status_of,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_ONCE = 8
BLOCK_BYTES = 1 << 20
ANSWER_SECONDS = 60
ATTEMPTS = 3
LOWEST_RATE = 4 << 10
"""Lowest accepted rate of content in either direction, in bytes per second, beyond `ANSWER_SECONDS`."""
END_SECONDS = 5
"""Time in which a reader whose connection was ended puts away what it has written."""
SCAN_MAX = 100_000
"""Maximum number of files in a directory."""


def main(job: dict[str, Any]) -> None:
    try:
        OPERATIONS[job["do"]](job)
    except (TransferFailed, OSError) as error:
        emit(error=str(error), in_part=isinstance(error, DeletedInPart))
        sys.exit(1)


def scan(job: dict[str, Any]) -> None:
    """Print each file below the directory with its digest, and each path that is no file.

    With names that are not UTF-8, print those alone: no file is read.
    """
    with open_directory(Path(job["directory"])) as top:
        entries = list(itertools.islice(walk(top), SCAN_MAX + 1))
        if len(entries) > SCAN_MAX:
            raise TransferFailed(f"{job['directory']} has more than {SCAN_MAX} files")
        if unnamed := [each.path for each in entries if not is_text(each.path)]:
            for path in unnamed:
                emit(unnamed=path.encode(errors="backslashreplace").decode())
            entries = []
        for entry in entries:
            if entry.is_file:
                emit(file=digest_file(top, entry.path))
            elif not entry.is_directory:
                emit(other=entry.path, link=entry.is_link)
    emit(done=True)


def upload(job: dict[str, Any]) -> None:
    """Send the parts of one file, and print the tag of each."""
    limiter, send = Limiter(job["bytes_per_second"]), _sender(job["authority"])

    def put(top: int, number: int, part: dict[str, Any]) -> None:
        with open_file(top, job["path"]) as file:
            file.seek(part["offset"])
            data = file.read(part["bytes"])
        limiter.wait(len(data))
        headers = send("PUT", part["url"], data, lambda answer: answer.headers, most_seconds(len(data)))
        emit(part=number, tag=headers["ETag"], bytes=len(data))

    with open_directory(Path(job["directory"])) as top, ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(put, top, number, part) for number, part in enumerate(job["parts"], start=1)]:
            done.result()
    emit(done=True)


def read(job: dict[str, Any]) -> None:
    """Read each object, and print its size and digest; both are null if there is no object."""
    _each(job, lambda file, data: measure(data))


def download(job: dict[str, Any]) -> None:
    """Write each object to its file, whole or not at all, and print the size and digest of what came."""
    with open_directory(Path(job["directory"]), make=True) as top:
        _each(job, lambda file, data: write_file(top, file, data))


def delete(job: dict[str, Any]) -> None:
    """Delete the files, unless one of them has changed; then the directories that are empty."""
    changed = delete_unchanged(Path(job["directory"]), job["files"])
    emit(changed=changed, done=True)


def delete_unchanged(directory: Path, files: list[dict[str, Any]]) -> list[str]:
    """Delete *files* and the directories that are empty then; with a changed file, nothing.

    Returns:
        The paths of changed files.

    Raises:
        DeletedInPart: a file could not be deleted; those before it were.
    """
    with open_directory(directory) as top:
        changed = [file["path"] for file in files if not _is_unchanged(top, file)]
        if changed:
            return changed
        delete_all(top, [file["path"] for file in files])
    remove_empty(directory)
    return []


def delete_all(top: int, paths: list[str]) -> None:
    """Delete the files at the relative *paths*.

    Raises:
        DeletedInPart: a file could not be deleted; those before it were.
        TransferFailed: the first one could not be deleted.
    """
    for number, path in enumerate(paths):
        try:
            delete_file(top, path)
        except (TransferFailed, OSError) as error:
            reason = str(error) if isinstance(error, TransferFailed) else f"{path} cannot be deleted: {error.strerror}"
            if not number:
                raise TransferFailed(reason) from None
            raise DeletedInPart(f"{reason}; {number} of {len(paths)} files were deleted") from None


OPERATIONS = {"scan": scan, "upload": upload, "read": read, "download": download, "delete": delete}


class Limiter:
    """Lets at most so many bytes pass in a second, for all threads together."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._rate, self._next, self._lock = bytes_per_second, time.monotonic(), threading.Lock()

    def wait(self, size: int) -> None:
        """Return when *size* more bytes may pass."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._next)
            self._next = begin + size / self._rate
        time.sleep(begin - now)


def _each(job: dict[str, Any], use: Callable[[dict[str, Any], Iterator[bytes]], dict[str, Any]]) -> None:
    send, limiter = _sender(job["authority"]), Limiter(job["bytes_per_second"])

    def get(file: dict[str, Any]) -> None:
        def consume(answer: Any) -> dict[str, Any]:
            return use(file, blocks(answer, limiter, file["bytes"] + 1))

        seconds = most_seconds(file["bytes"], job["bytes_per_second"])
        try:
            emit(path=file["path"], **send("GET", file["url"], None, consume, seconds))
        except urllib.error.HTTPError:  # there is no such object
            emit(path=file["path"], bytes=None, sha256=None)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(get, file) for file in job["files"]]:
            done.result()
    emit(done=True)


def most_seconds(size: int, bytes_per_second: int | None = None) -> float:
    """Return the time limit of a request and its answer with *size* bytes.

    Args:
        bytes_per_second: Bound that `AT_ONCE` requests share, each of which may wait for a block of every other one.
    """
    waiting = AT_ONCE * (size + BLOCK_BYTES) / bytes_per_second if bytes_per_second else 0
    return ANSWER_SECONDS + size / LOWEST_RATE + waiting


def _sender(authority: str | None) -> Callable[[str, str, bytes | None, Callable[[Any], Any], float], Any]:
    """Return a function that sends a request, and returns what an argument makes of the answer, in so many seconds."""
    context = ssl.create_default_context(cadata=authority)
    opener = urllib.request.OpenerDirector()  # without redirects, and without the environment's proxies
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)

    def send(method: str, url: str, data: bytes | None, use: Callable[[Any], Any], seconds: float) -> Any:
        if not url.startswith(("https://", "http://")):
            raise TransferFailed("the address of an object is none of HTTP")
        request = urllib.request.Request(url, data=data, method=method)  # noqa: S310 -- just checked

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _within(seconds, partial(opener.open, request, timeout=ANSWER_SECONDS), use)
            except urllib.error.HTTPError as error:
                reason, final = f"the store answered with status {error.code}", error.code < 500
                if error.code == 404 and method == "GET":
                    raise
            except (OSError, http.client.HTTPException) as error:  # with URLError
                reason, final = f"no answer from the store: {getattr(error, 'reason', error)}", False
            if final:
                break
            time.sleep(attempt)
        raise TransferFailed(reason)

    return send


def _within(seconds: float, ask: Callable[[], Any], use: Callable[[Any], Any]) -> Any:
    """Return what *use* makes of the answer that *ask* returns.

    A socket's own limit begins again with each byte of a slow store. So both run in a thread of their own, and the
    connection of an answer that is late is ended: its reader then finds another content, or no answer.

    Raises:
        TimeoutError: They did not end within *seconds*.
        Exception: Whatever they raised.
    """
    results: list[Any] = []
    errors: list[Exception] = []
    answers: list[Any] = []
    over = threading.Event()

    def run() -> None:
        try:
            with ask() as answer:
                answers.append(answer)
                if not over.is_set():
                    results.append(use(answer))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        over.set()
        for answer in answers:
            _shut_down(answer)
        thread.join(END_SECONDS if answers else 0)
        raise TimeoutError(f"no end within {seconds:g} s")
    if errors:
        raise errors[0]
    return results[0]


def _shut_down(answer: Any) -> None:
    """End the connection of *answer*, whose reader waits for it. A close of the answer would wait as well."""
    with (
        contextlib.suppress(OSError, ValueError, AttributeError),
        socket.socket(fileno=os.dup(answer.fileno())) as connected,
    ):
        connected.shutdown(socket.SHUT_RDWR)


def blocks(stream: Any, limiter: Limiter, most: int | None = None) -> Iterator[bytes]:
    """Yield the content of *stream*, at most *most* bytes."""
    while most is None or most > 0:
        block = stream.read(BLOCK_BYTES if most is None else min(BLOCK_BYTES, most))
        if not block:
            return
        if most is not None:
            most -= len(block)
        limiter.wait(len(block))
        yield block


def write_through(data: Iterator[bytes], target: Any) -> Iterator[bytes]:
    """Write *data* to *target* while it passes."""
    for block in data:
        target.write(block)
        yield block


def measure(data: Iterator[bytes]) -> dict[str, Any]:
    """Return the size and the digest of *data*."""
    digest, size = hashlib.sha256(), 0
    for block in data:
        digest.update(block)
        size += len(block)
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_file(top: int, file: dict[str, Any], data: Iterator[bytes]) -> dict[str, Any]:
    """Write *data* to its file, and return its size and digest; another content than the wanted one is not kept."""
    found: dict[str, Any] = {}
    with contextlib.suppress(_OtherContent), replace_file(top, file["path"]) as target:
        found = measure(write_through(data, target))
        if found["sha256"] != file["sha256"]:
            raise _OtherContent
        os.fchmod(target.fileno(), file["mode"])
    return found


class _OtherContent(Exception):
    """An object has another content than the wanted one."""


def digest_file(top: int, path: str) -> dict[str, Any]:
    """Return the path, size, digest, mode and time of the file at the relative *path*."""
    with open_file(top, path) as file:
        before = os.fstat(file.fileno())
        found = measure(blocks(file, Limiter(None)))
    return {"path": path, **found, "mode": before.st_mode & 0o777, "mtime_ns": before.st_mtime_ns}


def _is_unchanged(top: int, file: dict[str, Any]) -> bool:
    try:
        found = status_of(top, file["path"])
    except (OSError, TransferFailed):
        return False
    is_same = (found.st_size, found.st_mtime_ns) == (file["bytes"], file["mtime_ns"])
    return is_same and stat.S_ISREG(found.st_mode)


_printing = threading.Lock()


def emit(**document: Any) -> None:
    """Print *document* as one line."""
    with _printing:
        print(json.dumps(document), flush=True)

"""A host asks its own server: whether it is ready, with which model, and how many rows it gets right."""

import contextlib
import http.client
import json
import os
import pwd
import socket
import stat
import struct
import threading
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import WorkloadError
from workloads.serving.model import Model
from workloads.serving.wire import DTYPES

SECONDS = 60.0
"""For one answer: the machine may be busy with others."""
ANSWER_BYTES = 64 << 20
"""The most that an answer may have."""
ROWS = 16
"""Of one request, or fewer where the server takes fewer."""


@dataclass(frozen=True, slots=True)
class Own:
    """A server of this host, which is asked over a Unix socket that only its account has."""

    socket: str
    account: str
    key: str | None = None

    def ask(self, path: str, body: bytes | None = None, seconds: float = SECONDS) -> tuple[int, Any]:
        """Return the status and the JSON that it answers with.

        Args:
            seconds: Seconds for the whole answer, however it comes.

        Raises:
            OSError: nothing answers there, or a process of another account does.
            ValueError: what answers is no such server.
        """
        end = time.monotonic() + seconds
        connection = http.client.HTTPConnection("localhost", timeout=seconds)
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        connection.sock = connected = connect(self.socket, self.account, seconds)
        # the timeout of a socket begins again with each byte; this one does not
        deadline = threading.Timer(seconds, _end, [connected])
        deadline.start()
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read(ANSWER_BYTES + 1)
            if len(content) > ANSWER_BYTES:
                raise ValueError(f"an answer of more than {ANSWER_BYTES} bytes")
            if answer.length or time.monotonic() >= end:
                raise TimeoutError(f"no whole answer within {seconds:g} s")
            return answer.status, json.loads(content)
        except http.client.HTTPException as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        finally:
            deadline.cancel()
            connection.close()

    def version(self) -> str:
        """Return the version of the model that it takes requests for; empty while it takes none."""
        try:
            status, told = self.ask("/ready", seconds=5)
        except (OSError, ValueError):
            return ""
        return str(told.get("version", "")) if status == 200 and isinstance(told, dict) else ""


def _end(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has just ended by itself
        connected.shutdown(socket.SHUT_RDWR)


def connect(path: str, account: str, seconds: float) -> socket.socket:
    """Return a connection to the Unix socket *path*, on which a process of *account* listens.

    That account may replace the socket by a link to another service's: links are not followed, and what is opened is
    what is connected to. The kernel says whose process listens. `rackwright.facts.probe.servers` does the same.

    Raises:
        OSError: it is no socket, or another account's.
    """
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        raise OSError(f"no account {account} on this host") from None
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != uid:
            raise OSError(f"{path} is no socket of {account}")
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(seconds)
            connected.connect(f"/proc/self/fd/{place}")
            peer = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if peer != uid:
                raise OSError(f"a process of the account {peer} listens at {path}, and none of {account}")
        except BaseException:
            connected.close()
            raise
        return connected
    finally:
        os.close(place)


def accuracy(own: Own, model: Model, data: Path, max_batch: int) -> float:
    """Return the share of the rows in *data* that the server gives the class that their label says.

    Args:
        data: A file of NumPy's: an array for each input, by its name, and `labels`.

    Raises:
        WorkloadError: the file does not fit the model, or the server does not answer.
    """
    arrays, labels = _rows(model, data)
    step = min(ROWS, max_batch)
    right = 0
    for first in range(0, len(labels), step):
        body = json.dumps({"inputs": [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(part.shape), "data": part.ravel().tolist()}
            for tensor in model.inputs
            for part in [arrays[tensor.name][first : first + step].astype(DTYPES[tensor.datatype])]
        ]}).encode()  # fmt: skip
        try:
            status, told = own.ask(f"/v2/models/{model.name}/infer", body)
        except (OSError, ValueError) as error:
            status, told = 0, {"error": str(error)}
        if status != 200:
            said = told.get("error") if isinstance(told, dict) else told
            want = "the canary's rows are answered"
            raise WorkloadError(str(data), f"got {status or 'no answer'} for them ({said})", want, "See the log")
        given = np.asarray(told["outputs"][0]["data"], float).reshape(told["outputs"][0]["shape"])
        right += int((given.reshape(len(given), -1).argmax(1) == labels[first : first + step]).sum())
    return right / len(labels)


def _rows(model: Model, data: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    try:
        with np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise WorkloadError(str(data), f"got {error}", "it is a file of numpy.savez", "Write it anew") from error
    wanted = [*(tensor.name for tensor in model.inputs), "labels"]
    missing = [name for name in wanted if name not in arrays]
    lengths = {len(arrays[name]) for name in wanted if name in arrays and arrays[name].ndim}
    if missing or len(lengths) != 1 or lengths == {0}:
        got = f"got no {' and no '.join(missing)}" if missing else f"got arrays of {sorted(lengths)} rows"
        want = f"it has rows of {', '.join(wanted)}, as many of each"
        raise WorkloadError(str(data), got, want, "Write it anew, with numpy.savez")
    return arrays, arrays["labels"]

"""A client of the server on the same host: whether it is ready, with which model, and how accurate its answers are."""

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

from workloads.errors import Diagnostic, UserError
from workloads.foreign import parse_json
from workloads.serving.model import Model
from workloads.serving.wire import DTYPES

ANSWER_SECONDS = 60.0
"""Seconds to wait for one answer: the machine may be busy with other work."""
ANSWER_BYTES = 64 << 20
"""The largest answer, in bytes."""
ROWS = 16
"""Rows of one request, or fewer if the server accepts fewer."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server on this host, reached over a Unix socket that only the server's account owns."""

    socket: str
    account: str
    key: str | None = None

    def ask(self, path: str, body: bytes | None = None, seconds: float = ANSWER_SECONDS) -> tuple[int, Any]:
        """Return the status and the JSON of the server's answer.

        Args:
            seconds: Seconds for the whole answer, even if it arrives in pieces.

        Raises:
            OSError: no process answers there, or a process of another account does.
            ValueError: the answer is not one of this server.
        """
        end = time.monotonic() + seconds
        connection = http.client.HTTPConnection("localhost", timeout=seconds)
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        connection.sock = unix_socket = connect(self.socket, self.account, seconds)
        # a socket's timeout restarts with each byte; this one does not
        deadline = threading.Timer(seconds, _shut_down, [unix_socket])
        deadline.start()
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read(ANSWER_BYTES + 1)
            if len(content) > ANSWER_BYTES:
                raise ValueError(f"an answer of more than {ANSWER_BYTES} bytes")
            if answer.length or time.monotonic() >= end:
                raise TimeoutError(f"no whole answer within {seconds:g} s")
            return answer.status, parse_json(content, ANSWER_BYTES)
        except http.client.HTTPException as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        finally:
            deadline.cancel()
            connection.close()

    def version(self) -> str:
        """Return the version of the model that the server is ready with, or an empty text while it is not ready."""
        try:
            status, answer = self.ask("/ready", seconds=5)
        except (OSError, ValueError):
            return ""
        return str(answer.get("version", "")) if status == 200 and isinstance(answer, dict) else ""


def _shut_down(unix_socket: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer has closed it already
        unix_socket.shutdown(socket.SHUT_RDWR)


def connect(path: str, account: str, seconds: float) -> socket.socket:
    """Return a connection to the Unix socket *path*, on which a process of *account* listens.

    The account may replace the socket by a link to another service's socket. So the function follows no link, and
    connects to the very file that it opened. The kernel names the account of the listening process.
    `rackwright.facts.probe.servers` does the same.

    Raises:
    """
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        raise OSError(f"no account {account} on this host") from None
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISSOCK(status.st_mode) or status.st_uid != uid:
            raise OSError(f"{path} is no socket of {account}")
        unix_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            unix_socket.settimeout(seconds)
            unix_socket.connect(f"/proc/self/fd/{descriptor}")
            peer = struct.unpack("3i", unix_socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
            if peer != uid:
                raise OSError(f"a process of the account {peer} listens at {path}, and none of {account}")
        except BaseException:
            unix_socket.close()
            raise
        return unix_socket
    finally:
        os.close(descriptor)


def measure_accuracy(server: LocalServer, model: Model, data: Path, max_batch: int) -> float:
    """Return the share of the rows in *data* that the server classifies as their labels say.

    Args:
        data: A file of `numpy.savez`: an array for each input, by its name, and `labels`.

    Raises:
        UserError: the file does not fit the model, or the server does not answer.
    """
    arrays, labels = read_rows(model, data)
    step = min(ROWS, max_batch)
    right = 0
    for first in range(0, len(labels), step):
        body = json.dumps({"inputs": [
            {"name": tensor.name, "datatype": tensor.datatype, "shape": list(part.shape), "data": part.ravel().tolist()}
            for tensor in model.inputs
            for part in [arrays[tensor.name][first : first + step].astype(DTYPES[tensor.datatype])]
        ]}).encode()  # fmt: skip
        try:
            status, answer = server.ask(f"/v2/models/{model.name}/infer", body)
        except (OSError, ValueError) as error:
            status, answer = 0, {"error": str(error)}
        if status != 200:
            reason = answer.get("error") if isinstance(answer, dict) else answer
            problem = f"the server does not answer the canary's rows: {status or 'no answer'} ({reason})"
            raise UserError(Diagnostic(str(data), problem, help="Read the log of the server"))
        scores = np.asarray(answer["outputs"][0]["data"], float).reshape(answer["outputs"][0]["shape"])
        right += int((scores.reshape(len(scores), -1).argmax(1) == labels[first : first + step]).sum())
    return right / len(labels)


def read_rows(model: Model, data: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the inputs and the labels in the file *data*.

    Raises:
        UserError: the file does not fit *model*.
    """
    try:
        with np.load(data, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            Diagnostic(
                str(data),
                f"the file cannot be read: {error}",
                "a file that numpy.savez wrote",
                "Write the file again with numpy.savez",
            )
        ) from error
    names = [*(tensor.name for tensor in model.inputs), "labels"]
    missing = [name for name in names if name not in arrays]
    lengths = {len(arrays[name]) for name in names if name in arrays and arrays[name].ndim}
    if missing or len(lengths) != 1 or lengths == {0}:
        problem = f"has no {' and no '.join(missing)}" if missing else f"has arrays of {sorted(lengths)} rows"
        expected = f"arrays of equal length: {', '.join(names)}"
        help = "Write the file again with numpy.savez"
        raise UserError(Diagnostic(str(data), f"the file {problem}", expected, help))
    return arrays, arrays["labels"]

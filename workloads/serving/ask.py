"""A host asks its own server: whether it is ready, with which model, and how many rows it gets right."""

import http.client
import json
import ssl
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workloads.common.errors import WorkloadError
from workloads.serving.model import Model
from workloads.serving.wire import DTYPES

SECONDS = 60.0
"""For one answer: the machine may be busy with others."""
ROWS = 16
"""Of one request, or fewer where the server takes fewer."""


@dataclass(frozen=True, slots=True)
class Own:
    """A server of this host."""

    host: str
    port: int
    tls: bool
    key: str | None = None

    def ask(self, path: str, body: bytes | None = None, seconds: float = SECONDS) -> tuple[int, Any]:
        """Return the status and the JSON that it answers with.

        Raises:
            OSError: nobody answers.
            ValueError: what answers is no such server.
        """
        connection: http.client.HTTPConnection
        if self.tls:
            # who is asked is this host itself, by its address: its certificate is for others
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=context)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        headers = {"authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            connection.request("GET" if body is None else "POST", path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except http.client.HTTPException as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def version(self) -> str:
        """Return the version of the model that it takes requests for; empty while it takes none."""
        try:
            status, told = self.ask("/ready", seconds=5)
        except (OSError, ValueError):
            return ""
        return str(told.get("version", "")) if status == 200 and isinstance(told, dict) else ""


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

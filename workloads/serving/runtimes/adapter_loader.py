"""The LoRA adapters that a running vLLM has, and their change without a restart of the model.

vLLM loads an adapter over the route that VLLM_ALLOW_RUNTIME_LORA_UPDATING opens. vLLM's socket is private to the
server, and the server does not forward that route.
"""

import json
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from typing import Any

from workloads.errors import Diagnostic, UserError
from workloads.serving.adapters import all_adapters, check_adapters
from workloads.serving.runtimes.unix_http import UnixConnection
from workloads.serving.vllm_settings import VllmSettings

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
ANSWER_BYTES = 1 << 20
"""Bytes that are read of an answer of vLLM."""
SECONDS = 300.0
"""Seconds for one adapter, which vLLM reads from the drive."""


class AdapterLoader:
    """The adapters of one vLLM, which starts with those of its settings."""

    def __init__(self, settings: VllmSettings, socket_path: Path, key: str) -> None:
        """
        Args:
            key: vLLM's own API key.

        Raises:
            UserError: the file of adapters cannot be read.
        """
        self._settings, self._socket_path, self._key = settings, socket_path, key
        self._loaded = all_adapters(settings)

    def directories(self) -> dict[str, str]:
        """Return the directory of each loaded adapter, by the adapter's name."""
        return {name: adapter.directory for name, adapter in sorted(self._loaded.items())}

    def load(self) -> None:
        """Read the file of adapters again, and let vLLM load, replace and unload what differs.

        Requests to other adapters, and to the model itself, go on.

        Raises:
            UserError: the file is invalid, weights differ from their digest, an adapter has a larger rank than vLLM has
                room for, or vLLM refuses it. The adapters before the failed one have changed.
        """
        wanted = all_adapters(self._settings)
        changed = {name: adapter for name, adapter in wanted.items() if self._loaded.get(name) != adapter}
        check_adapters(changed)
        largest = self._settings.largest_rank
        for name, adapter in changed.items():
            if adapter.rank > largest:
                problem, expected = f"the adapter {name} has rank {adapter.rank}", f"at most {largest}, as vLLM started"
                raise UserError(Diagnostic(adapter.directory, problem, expected, "Restart the server"))
        for name in sorted(self._loaded.keys() - wanted.keys()):
            self._post(UNLOAD, name, {"lora_name": name})
            del self._loaded[name]
        for name, adapter in sorted(changed.items()):
            body = {"lora_name": name, "lora_path": adapter.directory, "load_inplace": name in self._loaded}
            self._post(LOAD, name, body)
            self._loaded = {**self._loaded, name: adapter}

    def _post(self, path: str, name: str, body: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        try:
            with closing(UnixConnection(self._socket_path, timeout=SECONDS)) as connection:
                connection.request("POST", path, json.dumps(body), headers)
                answer = connection.getresponse()
                content, status = answer.read(ANSWER_BYTES).decode(errors="replace"), answer.status
        except (OSError, HTTPException) as error:
            content, status = type(error).__name__, 0
        if status != 200:
            problem = f"vLLM refuses {path.rpartition('/')[2]}: {status or 'no answer'} ({content[:300]})"
            help = "Correct the adapter, or restart the server"
            raise UserError(Diagnostic(f"adapter {name}", problem, "an adapter of the served model", help))

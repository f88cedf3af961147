"""A request that the leader of a replica sends to its own vLLM now and then: a replica that hangs is noticed.

With a lost host, vLLM's /health stays 200 while requests hang. A busy vLLM may answer late as well; so a late answer
counts only if vLLM computed nothing in the meantime.
"""

import json
import re
import threading
from contextlib import closing
from http.client import HTTPException
from pathlib import Path

from workloads.serving.runtimes.unix_http import UnixConnection

ANSWER_BYTES = 16 << 20
"""Bytes that are read of an answer of vLLM; its metrics have up to 1 MiB."""
EVERY_SECONDS = 30.0
DEADLINE_SECONDS = 60.0
PROGRESS = re.compile(r"^vllm:(?:generation|prompt)_tokens_total\{[^}]*\} (\S+)$", re.MULTILINE)
"""vLLM's counters of computed tokens. Source: /metrics of vLLM 0.32."""


class ReplicaCanary:
    """Asks vLLM for one token again and again, in a thread of its own."""

    def __init__(self, socket_path: Path, key: str, model: str) -> None:
        self._socket_path, self._key, self._model = socket_path, key, model
        self._failure: str | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="replica canary", daemon=True)
        self._thread.start()

    def failure(self) -> str | None:
        """Return why the replica is taken for dead; None while it answers."""
        return self._failure

    def close(self) -> None:
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(EVERY_SECONDS) and self._failure is None:
            before = self._progress()
            try:
                status = self._ask()
            except (OSError, HTTPException) as error:
                if not self._closed.is_set() and self._progress() == before:
                    self._failure = f"the replica did not answer within {DEADLINE_SECONDS:g} s: {error}"
            else:
                if status >= 500:
                    self._failure = f"the replica answered {status} to a request for one token"

    def _ask(self) -> int:
        """Return the status of vLLM's answer to a request for one token."""
        body = json.dumps({"model": self._model, "prompt": "1", "max_tokens": 1})
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        with closing(UnixConnection(self._socket_path, DEADLINE_SECONDS)) as connection:
            connection.request("POST", "/v1/completions", body, headers)
            with connection.getresponse() as answer:
                answer.read(ANSWER_BYTES)
                return answer.status

    def _progress(self) -> float | None:
        """Return the number of tokens that vLLM has computed; None if it does not say so."""
        try:
            with closing(UnixConnection(self._socket_path, DEADLINE_SECONDS)) as connection:
                connection.request("GET", "/metrics")
                with connection.getresponse() as answer:
                    return sum(map(float, PROGRESS.findall(answer.read(ANSWER_BYTES).decode(errors="replace"))))
        except (OSError, HTTPException, ValueError):
            return None

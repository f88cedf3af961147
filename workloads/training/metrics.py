"""Metrics of a run: a JSON Lines file for each process, and text lines on the terminal."""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """The metrics file of one process. Each line is written at once, so that a crash loses none; nothing waits for it.

    A line has a ``step``, or an ``event`` and its step. After a crash some steps occur twice: the later line counts.
    """

    def __init__(self, file: Path, is_speaker: Callable[[], bool]) -> None:
        """
        Args:
            is_speaker: Whether this process currently prints to the terminal.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a", buffering=1)
        self._is_speaker = is_speaker

    def log(self, **values: Any) -> None:
        self._file.write(json.dumps(values) + "\n")

    def print(self, text: str) -> None:
        if self._is_speaker():
            print(text, flush=True)

    def close(self) -> None:
        self._file.close()


def elastic_name(environment: Mapping[str, str]) -> str:
    """Return the name of a process of an elastic run: its host and local rank, as its rank may change."""
    return f"{environment.get('HOROVOD_HOSTNAME', socket.gethostname())}-{environment.get('HOROVOD_LOCAL_RANK', '0')}"


def file_of(directory: Path, name: str) -> Path:
    """Return the metrics file of a process: ``metrics.jsonl`` for rank 0, ``metrics-NAME.jsonl`` for others."""
    return directory / ("metrics.jsonl" if name == "0" else f"metrics-{name}.jsonl")

"""What a run tells of itself: a line of JSON for each thing, in a file of each process's own, and lines for people."""

import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Metrics:
    """The file of one process. A line is written at once, so that it outlives the process, and never waited for.

    A line has a ``step``, or an ``event`` and its step. After a crash some steps stand twice: the later line holds.
    """

    def __init__(self, file: Path, speaks: Callable[[], bool]) -> None:
        """
        Args:
            speaks: Whether this process is the one that talks to people, at the moment.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file.open("a", buffering=1)
        self._speaks = speaks

    def tell(self, **values: Any) -> None:
        self._file.write(json.dumps(values) + "\n")

    def say(self, text: str) -> None:
        if self._speaks():
            print(text, flush=True)

    def close(self) -> None:
        self._file.close()


def elastic_name(environment: Mapping[str, str]) -> str:
    """Return the name of a process of an elastic run, whose rank may come to be another's, by its host."""
    return f"{environment.get('HOROVOD_HOSTNAME', socket.gethostname())}-{environment.get('HOROVOD_LOCAL_RANK', '0')}"


def file_of(directory: Path, name: str) -> Path:
    """Return the file of a process: of rank 0 ``metrics.jsonl``, of others ``metrics-NAME.jsonl``."""
    return directory / ("metrics.jsonl" if name == "0" else f"metrics-{name}.jsonl")

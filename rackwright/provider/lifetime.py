"""The records of a provider's start and end, by which a command knows one that was killed. Imports nothing heavy."""

import json
import os
from collections.abc import Mapping
from typing import Any, Literal

VARIABLE = "RACKWRIGHT_OUTCOMES"
"""The environment variable with the path of a file. The provider appends one JSON line for each outcome."""


def note_provider(event: Literal["started", "ended"]) -> None:
    """Record that this provider has started, or that the engine or a signal has ended it in the usual way."""
    append({"provider": event, "process": os.getpid()})


def note_activity(host: str, text: str, work: str = "facts") -> None:
    """Record that *work* on *host* is at *text*; an empty text is its end."""
    append({"activity": host, "text": text, "work": work})


def append(record: Mapping[str, Any]) -> None:
    """Append *record* to the file that the variable names, if it names one."""
    if path := os.environ.get(VARIABLE):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, (json.dumps(record) + "\n").encode())  # one write: threads do not mix
        finally:
            os.close(file)

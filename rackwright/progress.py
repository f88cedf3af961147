"""Progress of long work, one line at a time."""

from typing import Protocol


class Progress(Protocol):
    """Receives one line about the work that goes on."""

    def __call__(self, line: str, /) -> None: ...

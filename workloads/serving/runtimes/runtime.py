"""What the server asks of a runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from workloads.errors import WorkloadError
from workloads.serving.batcher import Arrays
from workloads.serving.model import Model


class Loaded(Protocol):
    """A model that has been loaded."""

    @property
    def model(self) -> Model:
        """What it is, with the names, types and shapes of its inputs."""

    @property
    def told(self) -> str:
        """The library that computes, with its version and device, as a person reads it."""


class Runtime(Loaded, Protocol):
    """A model that takes arrays and gives arrays. Whoever asks it asks once at a time."""

    def infer(self, inputs: Arrays) -> Arrays:
        """Return every output; *inputs* have the names, types and shapes that the model says."""


Reason = Literal["stop", "length"]
"""The model, or a word of the request, ended it; or there was no room for more."""


@dataclass(frozen=True, slots=True)
class End:
    """How a text ended."""

    reason: Reason
    prompt_tokens: int
    tokens: int
    """Written."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, as soon as it is written."""

    text: str
    end: End | None = None
    """Of the last one."""


class Unfit(Exception):
    """What nothing can be written to, and why, as its sender reads it."""

    def __init__(self, reason: str, code: str | None = None) -> None:
        """
        Args:
            code: What OpenAI's clients tell it by, where they can.
        """
        super().__init__(reason)
        self.code = code


@runtime_checkable
class Language(Loaded, Protocol):
    """A model that goes on with a text. Several may ask it at once, each from a thread of its own."""

    def generate(self, asked: Mapping[str, Any], heard: Callable[[Piece], bool]) -> None:
        """Tell *heard* every piece that is written, until there is an end, or it wants no more and returns False.

        Args:
            asked: `messages` or `prompt`, and how it is gone on with, by OpenAI's names.

        Raises:
            Unfit: nothing was written.
        """


class Lost(WorkloadError):
    """What computes has ended by itself; started again, it may go on."""

    exit_status = 4


@runtime_checkable
class Managed(Protocol):
    """A model that computes in a process of its own, which may end before it is told to."""

    def lost(self) -> str | None:
        """Return what a person is told of its end, if it has ended."""

    def close(self) -> None:
        """End it."""

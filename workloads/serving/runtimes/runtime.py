"""What the server asks of a runtime."""

from typing import Protocol

from workloads.serving.batcher import Arrays
from workloads.serving.model import Model


class Runtime(Protocol):
    """A model that has been loaded. Whoever asks it asks once at a time."""

    @property
    def model(self) -> Model:
        """What it is, with the names, types and shapes of its inputs."""

    @property
    def told(self) -> str:
        """The library that computes, with its version and device, as a person reads it."""

    def infer(self, inputs: Arrays) -> Arrays:
        """Return every output; *inputs* have the names, types and shapes that the model says."""

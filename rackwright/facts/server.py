"""A model server on a host, as the probe sees it."""

from collections.abc import Mapping
from typing import Any

from rackwright.facts.view import Fact, View, optional


class Server(View):
    """A model server that was put on this host."""

    ready = Fact(bool, "Whether it says that it takes requests.")
    version = Fact(optional, "Of the model that it says it serves; None where nobody answers.")
    why = Fact(optional, "It is not ready.")
    release = Fact(optional, "What it was last told to run.")
    previous = Fact(optional, "Version of the model before, which is kept.")

    @property
    def models(self) -> Mapping[str, str]:
        """By version: `whole`, or what is wrong with its files."""
        return self.table("models")

    @property
    def refused(self) -> Mapping[str, str] | None:
        """The last release that was tried and did not serve, unless another has since: release, version, why."""
        return None if self.read("refused") is None else self.table("refused")

    @property
    def accuracy(self) -> Mapping[str, Any] | None:
        """What its watch has noted: found and before (accuracy, at, version), least, why_not; None: nothing so far."""
        return None if self.read("accuracy") is None else self.table("accuracy")

    @property
    def figures(self) -> Mapping[str, Any]:
        """Since its start: requests, p50_ms and p99_ms of inference requests, how many wait."""
        return self.table("figures")

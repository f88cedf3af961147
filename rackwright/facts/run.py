"""A training on a host, as the probe sees it."""

from collections.abc import Mapping
from typing import Any

from rackwright.facts.view import Fact, View, optional, optional_number


class Run(View):
    """A training that was put on this host."""

    outcome = Fact(optional, "How it ended: finished, stopped, failed; None while it runs, or before its first start.")
    config = Fact(optional, "SHA-256 of the configuration that this is said of.")
    why = Fact(optional, "Of what failed.")
    attempt = Fact(optional_number, "How often it was started; on the chief alone.")
    steps = Fact(int, "Where it ends.")
    checkpoint = Fact(optional_number, "Step of the newest; on the chief alone.")

    @property
    def model(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.read("model")
        return found

    @property
    def page(self) -> str | None:
        """Where its MLflow server shows it; None while it is not known there."""
        found = self.read("tracked")
        return found and "{url}/#/experiments/{experiment}/runs/{run}".format_map(found)

    @property
    def ranks(self) -> Mapping[str, Mapping[str, float]]:
        """What each process here has told last (step, loss, step_seconds, time), by the name of its file."""
        found: Mapping[str, Mapping[str, float]] = self.read("ranks")
        return found

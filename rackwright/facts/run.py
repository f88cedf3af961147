"""A training on a host, as the probe sees it."""

from collections.abc import Mapping
from typing import Any

from rackwright.facts.view import Fact, View, mapping, optional, optional_number


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
        return self.table("model")

    @property
    def page(self) -> str | None:
        """Where its MLflow server shows it; None while it is not known there."""
        if not self.read("tracked"):
            return None
        found = View(self.read("tracked"), f"{self._where}.tracked")
        url, experiment, run = (found.value(name, str) for name in ("url", "experiment", "run"))
        return f"{url}/#/experiments/{experiment}/runs/{run}"

    @property
    def ranks(self) -> Mapping[str, Mapping[str, float]]:
        """What each process here has told last (step, loss, step_seconds, time), by the name of its file."""
        table = View(self.read("ranks"), f"{self._where}.ranks")
        return {name: table.value(name, mapping) for name in table._raw}

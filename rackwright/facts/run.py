"""The view of a training run on a host."""

from collections.abc import Mapping
from typing import Any

from rackwright.facts.view import LARGEST, Fact, View, mapping, optional, optional_number

NOT_FINITE = ("nan", "inf", "-inf")
"""Texts in the place of a loss that JSON has no number for."""


class RunFacts(View):
    """A training run that rackwright installed on this host."""

    outcome = Fact(optional, "Result: finished, stopped or failed; None while it runs and before its first start.")
    config = Fact(optional, "SHA-256 of the configuration that *outcome* belongs to.")
    why = Fact(optional, "Reason of a failure.")
    attempt = Fact(optional_number, "Number of starts; on the launcher host alone.")
    steps = Fact(int, "Number of the last step.")
    checkpoint = Fact(optional_number, "Step of the newest checkpoint; on the launcher host alone.")

    has_checkpoints = Fact(bool, "Whether the directory of checkpoints exists.")
    every_steps = Fact(int, "Interval of checkpoints, in steps.")

    @property
    def model(self) -> Mapping[str, Any]:
        return self.table("model")

    @property
    def page(self) -> str | None:
        """URL of the run at its MLflow server; None while the server does not know the run."""
        if not self.read("tracked"):
            return None
        entry = View(self.read("tracked"), f"{self._where}.tracked")
        url, experiment, run = (entry.value(name, str) for name in ("url", "experiment", "run"))
        return f"{url}/#/experiments/{experiment}/runs/{run}"

    @property
    def ranks(self) -> Mapping[str, Mapping[str, float]]:
        """Latest metrics of each process on this host, by the name of its file.

        They are step, loss, step_seconds, time, and expert_load_max of a model with experts.
        """
        table = View(self.read("ranks"), f"{self._where}.ranks")
        return {name: table.value(name, _metrics) for name in table._raw}


class HostRuns(View):
    """The training runs of a host."""

    def run(self, name: str) -> RunFacts | None:
        """Return the training run with this name; None if the host has none."""
        return self.entry("runs", name, RunFacts)


def _metrics(value: Any) -> Mapping[str, float]:
    """Convert the metrics of a process; only a loss may be infinite or NaN, as in a run that diverges."""
    metrics = dict(mapping(value))
    for key, number in metrics.items():
        if key == "loss" and number in NOT_FINITE:
            metrics[key] = float(number)
        elif not isinstance(number, int | float) or not -LARGEST <= number <= LARGEST:
            raise TypeError(f"{key} is no number within the bounds")
    return metrics

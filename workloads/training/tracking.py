"""Sending of a run's metrics to an MLflow server, and registration of its final checkpoint."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.errors import UserError
from workloads.training.config import TrainingConfig
from workloads.training.metrics import elastic_name, file_of

if TYPE_CHECKING:
    from workloads.tracking import TrackingServer


@contextlib.contextmanager
def track_run(config: TrainingConfig, out: Path, url: str, model: str | None) -> Iterator[None]:
    """Send the metrics of the run while the context is open, from rank 0 alone, and register the result.

    A failure of the server never stops the run. If registration fails, a message gives the command to repeat it.

    Args:
        url: Address of the server; empty for none.
        model: Model that the last checkpoint becomes a version of; None for no registration.

    Raises:
        UserError: The address or the credentials file is wrong; raised before the first step.
    """
    from workloads.tracking import connect
    from workloads.training.launch_check import is_leader

    if not url or not is_leader(os.environ):
        yield
        return
    name = elastic_name(os.environ) if config.elastic else "0"
    with track_journal(connect(url, os.environ), out, file_of(out, name).name, model):
        yield


@contextlib.contextmanager
def track_journal(server: "TrackingServer", out: Path, journal: str, model: str | None) -> Iterator[None]:
    """Send new lines of the file *journal* in *out* to *server* while the context is open, and register the result."""
    from workloads.tracking import Tracker, register

    with Tracker(server, out, _print_line, journal) as tracker:
        yield
    if model is None or not tracker.is_finished:
        return
    try:
        _print_line(f"{register(server, out, model)} is registered at {server.url}")
    except UserError as error:
        command = f"python -m workloads.tracking {out} --register {model}"
        _print_line(f"not registered: {error} Run `{command}` to register it later.")


def _print_line(text: str) -> None:
    print(text, flush=True)

"""What a run tells an MLflow server while it trains, and the version that is registered once it has finished."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from workloads.errors import WorkloadError
from workloads.training.config import TrainingConfig
from workloads.training.metrics import elastic_name, file_of

if TYPE_CHECKING:
    from workloads.tracking import Server


@contextlib.contextmanager
def following(config: TrainingConfig, out: Path, url: str, model: str | None) -> Iterator[None]:
    """Follow the run that is trained meanwhile, in the process that speaks for it, and register what comes of it.

    Whatever the server does, the run goes on; a run that has finished and cannot be registered says how that is done.

    Args:
        url: Of the server; empty for none.
        model: As a version of which model its last checkpoint is registered; None: it is not.

    Raises:
        WorkloadError: the address or the account's file is wrong: before the first step.
    """
    from workloads.tracking import connect
    from workloads.training.launch_check import leader

    if not url or not leader(os.environ):
        yield
        return
    name = elastic_name(os.environ) if config.elastic else "0"
    with telling(connect(url, os.environ), out, file_of(out, name).name, model):
        yield


@contextlib.contextmanager
def telling(server: "Server", out: Path, journal: str, model: str | None) -> Iterator[None]:
    """Tell *server* meanwhile what comes into the file *journal* of *out*, and register what comes of it."""
    from workloads.tracking import Tracker, register

    with Tracker(server, out, _say, journal) as tracker:
        yield
    if model is None or not tracker.finished:
        return
    try:
        _say(f"{register(server, out, model)} is registered at {server.url}")
    except WorkloadError as error:
        _say(f"not registered: {error} `python -m workloads.tracking {out} --register {model}` does it later.")


def _say(text: str) -> None:
    print(text, flush=True)

"""What a run tells an MLflow server while it trains, and the version that is registered once it has finished."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from workloads.common.errors import WorkloadError
from workloads.training.config import TrainingConfig
from workloads.training.metrics import file_of


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
    from workloads.common.tracking import Tracker, connect, register
    from workloads.training.started import leader

    if not url or not leader(os.environ):
        yield
        return

    server = connect(url, os.environ)
    name = "0"
    if config.elastic:  # as run.py calls its file
        name = f"{os.environ.get('HOROVOD_HOSTNAME', socket.gethostname())}-{os.environ.get('HOROVOD_LOCAL_RANK', '0')}"
    with Tracker(server, out, _say, file_of(out, name).name) as tracker:
        yield
    if model is None or not tracker.finished:
        return
    try:
        _say(f"{register(server, out, model)} is registered at {server.url}")
    except WorkloadError as error:
        _say(f"not registered: {error} `python -m workloads.common.tracking {out} --register {model}` does it later.")


def _say(text: str) -> None:
    print(text, flush=True)

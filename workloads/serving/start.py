"""Start a server, or a worker of a replica over several hosts or pods."""

import os
from pathlib import Path

from workloads.gpus import hide_other_gpus
from workloads.process_variables import as_environment
from workloads.serving.settings import ServingSettings


def start(directory: Path, settings: ServingSettings) -> None:
    """Serve the model in *directory*, or take part in serving it, until SIGTERM or SIGINT.

    Raises:
        UserError: the model cannot be served with these settings.
    """
    os.environ.update(as_environment(settings.variables))
    hide_other_gpus()
    if settings.vllm.follows:
        from workloads.serving.worker import serve_worker

        serve_worker(directory, settings)
        return
    from workloads.serving.serve import serve

    serve(directory, settings)

"""Our server in front of a vLLM that runs already: front.py SOCKET PORT, with vLLM's key in VLLM_API_KEY."""

import os
import socket
import sys
from pathlib import Path

from workloads.serving.keys import Keys
from workloads.serving.middleware import log_event
from workloads.serving.model import Model
from workloads.serving.serve import DrainingServer
from workloads.serving.settings import ServingSettings


class Running:
    """A vLLM that this process has not started."""

    description = "a running vLLM"
    model = Model(name="tiny", version="1", runtime="vllm", files={})
    key = os.environ.get("VLLM_API_KEY", "none")

    def __init__(self, socket_path: str) -> None:
        self.socket_path = Path(socket_path)


def main(socket_path: str, port: str) -> None:
    settings = ServingSettings(parallel=256, drain_seconds=0)
    listening = socket.create_server(("127.0.0.1", int(port)))
    DrainingServer(Running(socket_path), settings, Keys(None), None, 0.0, log_event).run([listening])


if __name__ == "__main__":
    main(*sys.argv[1:])

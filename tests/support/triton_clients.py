"""Ask a server of the digits by Triton's real clients over HTTP and gRPC, beside ONNX Runtime in this process.

$(rackwright toolchain workloads) -m tests.support.triton_clients DIRECTORY
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc
import tritonclient.http

from tests.support.model_servers import digits, eventually, here
from workloads.serving.runtimes import load_runtime
from workloads.serving.settings import ServingSettings

REQUESTS, MOST_ROWS, MANY_ROWS = 40, 8, 33
"""Requests over each protocol; their rows; and more rows than a request may have."""


def compare(directory: Path) -> dict[str, Any]:
    """Return the largest difference to ONNX Runtime over each protocol, and the statuses of refused requests."""
    published = digits(directory)
    alone = onnxruntime.InferenceSession(published / "model.onnx")
    name, output = alone.get_inputs()[0].name, alone.get_outputs()[0].name
    draw = np.random.default_rng(0)
    report: dict[str, Any] = {"requests": REQUESTS}
    with here(load_runtime(published, ServingSettings()), grpc_port=0) as server:
        eventually(lambda: any(line["event"] == "listening" for line in server.log))
        [line] = [line for line in server.log if line["event"] == "listening"]
        places = {"http": f"127.0.0.1:{server.address[1]}", "grpc": line["address"].removeprefix("grpc://")}
        for protocol, place in places.items():
            triton: Any = getattr(tritonclient, protocol)
            client = triton.InferenceServerClient(place)
            assert client.is_server_ready() and client.is_model_ready("digits")

            def ask(rows: np.ndarray, model: str = "digits", triton: Any = triton, client: Any = client) -> Any:
                tensor = triton.InferInput(name, list(rows.shape), "FP32")
                tensor.set_data_from_numpy(rows)
                return client.infer(model, [tensor]).as_numpy(output)

            differences = []
            for number in range(REQUESTS):
                rows = draw.random((1 + number % MOST_ROWS, 8, 8), dtype=np.float32)
                differences.append(float(np.abs(ask(rows) - alone.run([output], {name: rows})[0]).max()))
            report[protocol] = max(differences)
            report[f"{protocol} refused"] = [
                _status(lambda: ask(np.zeros((MANY_ROWS, 8, 8), np.float32))),
                _status(lambda: ask(np.zeros((1, 9, 8), np.float32))),
                _status(lambda: ask(np.zeros((1, 8, 8), np.float32), "other")),
            ]
    return report


def _status(act: Any) -> list[str]:
    try:
        act()
    except Exception as error:
        return [str(error.status()), str(error.message())]  # type: ignore[attr-defined]
    return ["OK", ""]


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]))))

"""Ask a classifier for all rows of a file by Triton's real client, and print the share that it answers correctly.

$(rackwright toolchain workloads) -m tests.support.ask_classifier ADDRESS:PORT MODEL ROWS < KEY
"""

import sys

import numpy as np
import tritonclient.http as triton

TOGETHER = 8
"""Rows of a request."""


def share(place: str, model: str, rows: str, key: str) -> float:
    """Return the share of *rows* that the server at *place* answers correctly."""
    client = triton.InferenceServerClient(place)
    headers = {"Authorization": f"Bearer {key}"}
    names = client.get_model_metadata(model, headers=headers)
    arrays = np.load(rows)
    right = 0
    for first in range(0, len(arrays["labels"]), TOGETHER):
        part = arrays["x"][first : first + TOGETHER]
        tensor = triton.InferInput(names["inputs"][0]["name"], list(part.shape), "FP32")
        tensor.set_data_from_numpy(part)
        answer = client.infer(model, [tensor], headers=headers).as_numpy(names["outputs"][0]["name"])
        right += int((answer.argmax(-1) == arrays["labels"][first : first + TOGETHER]).sum())
    return right / len(arrays["labels"])


if __name__ == "__main__":
    print(share(*sys.argv[1:4], sys.stdin.read().strip()))

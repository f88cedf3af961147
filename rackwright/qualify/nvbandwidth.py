"""The command line and the JSON output of nvbandwidth, which measures copies between memories."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rackwright.foreign import parse_object
from rackwright.qualify.item import MeasurementFailed

TO_GPU, FROM_GPU = "host_to_device_memcpy_ce", "device_to_host_memcpy_ce"
BETWEEN_GPUS = "device_to_device_memcpy_read_ce"
"""Tests of copies in one direction, by the GPU's copy engines."""
NO_PATH = "N/A"
"""Cell of a path that does not exist, such as from a GPU to itself."""


def argv(program: str, tests: Sequence[str]) -> tuple[str, ...]:
    return (program, "--json", "--testcase", *tests)


def parse(text: str) -> dict[str, float]:
    """Return the rate of the slowest path of each test, in GB/s (10^9 bytes per second).

    Raises:
        MeasurementFailed: the text is no output of ``nvbandwidth --json``, or a test did not pass; names the test.
    """
    try:
        output = parse_object(text[text.index("{") :])["nvbandwidth"]
        if "error" in output:
            raise MeasurementFailed(f"nvbandwidth failed: {output['error']}")
        return {test["name"]: _slowest(test) for test in output["testcases"]}
    except (ArithmeticError, AttributeError, LookupError, ValueError, TypeError) as error:
        raise MeasurementFailed(f"nvbandwidth printed no result ({type(error).__name__}: {error})") from None


def _slowest(test: Mapping[str, Any]) -> float:
    if test["status"] != "Passed":
        raise MeasurementFailed(
            f"nvbandwidth: {test['name']} ended as {test['status']}: {test.get('error', 'no message')}"
        )
    rate = min(float(cell) for row in test["bandwidth_matrix"] for cell in row if cell != NO_PATH)
    if not 0 <= rate < math.inf:
        raise ValueError("a rate is no finite number")
    return rate

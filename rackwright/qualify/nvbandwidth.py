"""What nvbandwidth prints: how fast copies get from one memory to another."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rackwright.qualify.item import Unusable

TO_GPU, FROM_GPU = "host_to_device_memcpy_ce", "device_to_host_memcpy_ce"
BETWEEN_GPUS = "device_to_device_memcpy_read_ce"
"""Copies in one direction, by the GPU's copy engines."""
NOT_THERE = "N/A"
"""Of a way that does not exist, as from a GPU to itself."""


def argv(program: str, tests: Sequence[str]) -> tuple[str, ...]:
    return (program, "--json", "--testcase", *tests)


def parse(text: str) -> dict[str, float]:
    """Return the slowest way of each test, in GB/s (10^9 bytes).

    Raises:
        Unusable: it is not what ``nvbandwidth --json`` prints, or a test did not pass; says which.
    """
    try:
        told = json.loads(text[text.index("{") :])["nvbandwidth"]
        if "error" in told:
            raise Unusable(f"nvbandwidth says: {told['error']}")
        return {test["name"]: _slowest(test) for test in told["testcases"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"nvbandwidth printed what is no result of it ({type(error).__name__}: {error})") from None


def _slowest(test: Mapping[str, Any]) -> float:
    if test["status"] != "Passed":
        raise Unusable(f"nvbandwidth: {test['name']} ended as {test['status']}: {test.get('error', 'it says no more')}")
    return min(float(cell) for row in test["bandwidth_matrix"] for cell in row if cell != NOT_THERE)

"""Results of restore tests: only the account that manages the store can report one."""

import json
from typing import Any

import pytest

from rackwright.endpoints.restore_result import COPIED_SECONDS, parse, render
from rackwright.foreign import InvalidData

KEY, NOW = "0" * 64, 1_800_000_000.0
RESULT = {"archive": "model-1", "at": NOW, "passed": True}
SIGNED = json.loads(render(KEY, "models", RESULT))


def test_a_signed_result_is_read() -> None:
    assert parse(KEY, "models", render(KEY, "models", RESULT), NOW + 5) == {"at": NOW, "passed": True}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**RESULT, "bucket": "models"}, "has not signed it"),
        ({**SIGNED, "at": NOW + 1}, "has not signed it"),
        ({**SIGNED, "passed": False}, "has not signed it"),
        ({**SIGNED, "more": 1}, "has not signed it"),
        ({**SIGNED, "signature": ["a"]}, "has not signed it"),
        ({**SIGNED, "signature": "é"}, "has not signed it"),
        ({**SIGNED, "at": True}, "no time and outcome"),
        ({**SIGNED, "passed": 1}, "no time and outcome"),
        (json.loads(render(KEY, "backups", RESULT)), "of another bucket"),
        (json.loads(render("1" * 64, "models", RESULT)), "has not signed it"),
    ],
)
def test_a_forged_result_is_refused(content: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidData, match=reason):
        parse(KEY, "models", json.dumps(content).encode(), NOW)


@pytest.mark.parametrize("late", [-COPIED_SECONDS - 1, COPIED_SECONDS + 1, 30 * 86400])
def test_a_copy_of_an_earlier_result_is_refused(late: float) -> None:
    with pytest.raises(InvalidData, match="uploaded at another time"):
        parse(KEY, "models", render(KEY, "models", RESULT), NOW + late)

"""Assertions of long tests: a failed one is a short line of output, not a traceback."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def need(holds: object, reason: str) -> None:
    """Fail the test with *reason* unless it *holds*."""
    if not holds:
        pytest.fail(reason, pytrace=False)


def eventually(holds: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Return once it *holds*; fail the test if that takes more than *seconds*."""
    deadline = time.monotonic() + seconds
    while not holds():
        need(time.monotonic() <= deadline, f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)


def there(found: T | None) -> T:
    """Return *found*, which is not None."""
    assert found is not None
    return found


def errors(stderr: str) -> list[str]:
    """Return the first line of each error that a command printed: its place and its problem."""
    return re.findall(r"^error(?:\[[\w-]+\])?: (.*)$", stderr, re.MULTILINE)

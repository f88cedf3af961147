"""What `dcgmi diag` says, as JSON, of DCGM 3 and 4."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackwright.qualify.item import Unusable

NAMES = ("DCGM Diagnostic", "DCGM GPU Diagnostic")
"""Of the one key that holds all: since version 4, and before. Source: its change log, breaking changes of 4.0."""
FINE, LEFT_OUT = ("Pass",), ("Skip", "Not Run")


@dataclass(frozen=True)
class Diagnosis:
    """How the tests ended."""

    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]
    """Each with what DCGM says of it."""


def argv(program: str, tests: str, *parameters: str) -> tuple[str, ...]:
    """Return the command for *tests*: a level, ``2``, or names; *parameters* as ``targeted_power.test_duration=60``."""
    return (program, "diag", "--run", tests, *(("--parameters", ";".join(parameters)) if parameters else ()), "--json")


def parse(text: str) -> Diagnosis:
    """Return how it ended, whatever the status of the program.

    Raises:
        Unusable: it is no result; says what DCGM said instead.
    """
    try:
        told = json.loads(text[text.index("{") :])
        found = next(told[name] for name in NAMES if name in told)
    except (ValueError, TypeError, StopIteration):
        said = [line for line in text.splitlines() if line.strip()][-1:] or ["nothing"]
        raise Unusable(f"dcgmi came to no result, and said: {said[0].strip()}") from None
    if error := found.get("runtime_error"):
        raise Unusable(f"DCGM says: {error}")
    try:
        return _diagnosis([test for category in found["test_categories"] for test in category["tests"]])
    except (KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"dcgmi told in a form that is not known ({type(error).__name__}: {error})") from None


def _diagnosis(tests: Sequence[Mapping[str, Any]]) -> Diagnosis:
    if not tests:
        raise Unusable("dcgmi told of no test")
    ended = [(test, _status(test)) for test in tests]
    return Diagnosis(
        tuple(test["name"] for test, status in ended if status in FINE),
        tuple(test["name"] for test, status in ended if status in LEFT_OUT),
        tuple(_told(test, status) for test, status in ended if status not in (*FINE, *LEFT_OUT)),
    )


def _status(test: Mapping[str, Any]) -> str:
    """Return the worst of all its results: a summary that passes over one of them is not to be believed."""
    statuses = [str(result["status"]) for result in test.get("results", ())]
    statuses += [str(test["test_summary"]["status"])] if "test_summary" in test else []
    for wanted in (lambda status: status not in (*FINE, *LEFT_OUT), lambda status: status in FINE):
        if worst := next(filter(wanted, statuses), None):
            return worst
    return statuses[0] if statuses else "Not Run"


def _told(test: Mapping[str, Any], status: str) -> str:
    words = "; ".join(dict.fromkeys(_words(test)))
    return f"{test['name']}: {status}{f': {words}' if words else ''}"


def _words(test: Mapping[str, Any]) -> Iterator[str]:
    for result in test.get("results", ()):
        warnings = result.get("warnings", ())
        for warning in [warnings] if isinstance(warnings, str) else warnings:
            yield warning["warning"] if isinstance(warning, dict) else str(warning)

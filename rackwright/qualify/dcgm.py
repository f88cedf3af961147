"""The command line and the JSON output of `dcgmi diag`, for DCGM 3 and 4."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rackwright.foreign import parse_object
from rackwright.qualify.item import MeasurementFailed

RESULT_KEYS = ("DCGM Diagnostic", "DCGM GPU Diagnostic")
"""Key of the whole result, since version 4 and before. Source: DCGM's change log, breaking changes of 4.0."""
PASSED_STATUSES, SKIPPED_STATUSES = ("Pass",), ("Skip", "Not Run")


@dataclass(frozen=True)
class Diagnosis:
    """The results of a diagnostic run, as names of tests."""

    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[str, ...]
    """Failed tests, each with its status and DCGM's warnings."""


def argv(program: str, tests: str, *parameters: str) -> tuple[str, ...]:
    """Return the command for *tests*.

    Args:
        tests: Level, such as ``2``, or names of tests.
        parameters: Settings, such as ``targeted_power.test_duration=60``.
    """
    return (program, "diag", "--run", tests, *(("--parameters", ";".join(parameters)) if parameters else ()), "--json")


def parse(text: str) -> Diagnosis:
    """Return the diagnosis in the output of dcgmi, whatever its exit status.

    Raises:
        MeasurementFailed: the output contains no result; quotes DCGM's message.
    """
    try:
        output = parse_object(text[text.index("{") :])
        result = next(output[name] for name in RESULT_KEYS if name in output)
    except (ValueError, TypeError, StopIteration):
        lines = [line for line in text.splitlines() if line.strip()][-1:] or ["nothing"]
        raise MeasurementFailed(f"dcgmi printed no result; its last line: {lines[0].strip()}") from None
    try:
        if error := result.get("runtime_error"):
            raise MeasurementFailed(f"DCGM failed: {error}")
        return _diagnosis([test for category in result["test_categories"] for test in category["tests"]])
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise MeasurementFailed(f"dcgmi printed a result of unknown form ({type(error).__name__}: {error})") from None


def _diagnosis(tests: Sequence[Mapping[str, Any]]) -> Diagnosis:
    if not tests:
        raise MeasurementFailed("dcgmi reported no tests")
    statuses = [(test, _status(test)) for test in tests]
    return Diagnosis(
        tuple(test["name"] for test, status in statuses if status in PASSED_STATUSES),
        tuple(test["name"] for test, status in statuses if status in SKIPPED_STATUSES),
        tuple(
            _describe_failure(test, status)
            for test, status in statuses
            if status not in (*PASSED_STATUSES, *SKIPPED_STATUSES)
        ),
    )


def _status(test: Mapping[str, Any]) -> str:
    """Return the worst status of a test's results, because a summary may ignore a failed one."""
    statuses = [str(result["status"]) for result in test.get("results", ())]
    statuses += [str(test["test_summary"]["status"])] if "test_summary" in test else []
    for is_wanted in (
        lambda status: status not in (*PASSED_STATUSES, *SKIPPED_STATUSES),
        lambda status: status in PASSED_STATUSES,
    ):
        if worst := next(filter(is_wanted, statuses), None):
            return worst
    return statuses[0] if statuses else "Not Run"


def _describe_failure(test: Mapping[str, Any], status: str) -> str:
    warnings = "; ".join(dict.fromkeys(_warnings(test)))
    return f"{test['name']}: {status}{f': {warnings}' if warnings else ''}"


def _warnings(test: Mapping[str, Any]) -> Iterator[str]:
    for result in test.get("results", ()):
        warnings = result.get("warnings", ())
        for warning in [warnings] if isinstance(warnings, str) else warnings:
            yield warning["warning"] if isinstance(warning, dict) else str(warning)

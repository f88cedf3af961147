"""The texts of values, differences and plans that previews, warnings and errors share."""

import difflib
from collections.abc import Iterable, Iterator, Mapping

from rackwright.core.contract import (
    Absent,
    Between,
    Call,
    Command,
    Difference,
    OneOf,
    Plan,
    UnknownValue,
    Value,
    Want,
    Within,
)
from rackwright.core.wire import normalise

CHANGES_MAX = 100
"""Lines of a file's diff that are shown at most."""


def format_value(value: Want | Value) -> str:
    """Return *value* as text: ``at least 5``, ``a, b``, ``absent``."""
    match value:
        case Absent():
            return "absent"
        case UnknownValue(reason):
            return f"unknown ({reason})"
        case OneOf(values):
            return " or ".join(map(format_value, values))
        case Within(values):
            return f"only {format_value(values)}"
        case Between(low, None):
            return f"at least {_number(low)}"
        case Between(None, high):
            return f"at most {_number(high)}"
        case Between(low, high):
            return f"{_number(low)} to {_number(high)}"
        case tuple():
            return ", ".join(value) or "none"
        case bool():
            return "yes" if value else "no"
        case str() if "\n" in value:
            return f"a text of {len(value.splitlines())} lines"
        case _:
            return str(value)


def format_difference(difference: Difference) -> str:
    """Return ``md:hot.bitmap is none, wanted internal`` with the remedy; the value of a secret is left out."""
    if difference.secret:
        why = f" ({difference.want.reason})" if isinstance(difference.want, UnknownValue) else ""
        problem = f"cannot be known{why}" if difference.is_unknown else "is not the secret that is declared"
        return _with_remedy(f"{difference.path} {problem}", difference.remedy)
    match difference.actual, difference.want:
        case str(actual), str(want) if "\n" in want:
            return _with_remedy(f"{difference.path} is not as wanted", difference.remedy) + _changes(actual, want)
    return _with_remedy(
        f"{difference.path} is {format_value(difference.actual)}, wanted {format_value(difference.want)}",
        difference.remedy,
    )


def format_manual(differences: Iterable[Difference]) -> list[str]:
    """Return the lines about *differences* that need manual work; one line for missing things with the same remedy."""
    lines: dict[str, None] = {}
    missing: dict[str, dict[str, None]] = {}
    for difference in differences:
        if isinstance(difference.actual, Absent) and difference.remedy and not difference.secret:
            missing.setdefault(difference.remedy, {})[difference.thing] = None
        else:
            lines[format_difference(difference)] = None
    for remedy, things in missing.items():
        lines[f"{', '.join(things)} {'is' if len(things) == 1 else 'are'} missing; help: {remedy}"] = None
    return [*lines]


def format_step(number: int, total: int, text: str) -> str:
    """Return the line for a step, the same in the preview and in the log."""
    return f"step {number}/{total}: {text}"


def format_plan(plan: Plan, differences: Iterable[Difference] = ()) -> str:
    """Return the text of *plan* for the preview.

    In this order: *differences* (empty if the caller shows them elsewhere), notes, every step with the data that it
    destroys, and the differences that need manual work.
    """
    return "\n".join(_plan_lines(plan, differences))


def format_known_later(number: int) -> str:
    """Return the line about *number* properties that are unknown until a plan's steps have run; empty for none."""
    return f"{number} {'property is' if number == 1 else 'properties are'} known after the steps" if number else ""


def _plan_lines(plan: Plan, differences: Iterable[Difference]) -> Iterator[str]:
    for difference in differences:
        yield f"differs: {format_difference(difference)}"
    yield from plan.notes
    for number, step in enumerate(plan.steps, start=1):
        yield format_step(number, len(plan.steps), step.text)
        for loss in step.destroys if isinstance(step, Command | Call) else ():
            yield f"    destroys {loss}"
    for text in format_manual(plan.by_hand):
        yield f"by hand: {text}"


def format_changes(actual_texts: Mapping[str, str | None], wanted_texts: Mapping[str, str]) -> str:
    """Return a unified diff of each file; a missing file counts as empty."""
    lines: list[str] = []
    for path, text in wanted_texts.items():
        before, after = (actual_texts.get(path) or "").splitlines(), text.splitlines()
        diff_lines = [*difflib.unified_diff(before, after, path, path, "as found", "as wanted", lineterm="")]
        left_out = len(diff_lines) - CHANGES_MAX
        lines += diff_lines[:CHANGES_MAX] + ([f"… and {left_out} lines more"] if left_out > 0 else [])
    return "\n".join(lines)


def _changes(actual: str, want: str) -> str:
    """Return the lines that differ, each with ``-`` or ``+``."""
    lines = difflib.ndiff(actual.splitlines(), want.splitlines())
    return "".join(f"\n    {line}" for line in lines if line[0] in "-+")


def _number(value: float | None) -> str:
    return str(normalise(value))


def _with_remedy(text: str, remedy: str) -> str:
    return f"{text}; {remedy}" if remedy else text

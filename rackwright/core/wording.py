"""Values, differences and plans in the words that previews, warnings and errors share."""

import difflib
from collections.abc import Iterable, Iterator, Mapping

from rackwright.core.contract import (
    Absent,
    Between,
    Command,
    Difference,
    OneOf,
    Plan,
    Unknown,
    Value,
    Want,
    Within,
)
from rackwright.core.wire import normalise

CHANGES_MAX = 100
"""Lines of a file's changes that are shown."""


def words(value: Want | Value) -> str:
    """Return *value* as a person says it: ``at least 5``, ``a, b``, ``absent``."""
    match value:
        case Absent():
            return "absent"
        case Unknown(reason):
            return f"unknown ({reason})"
        case OneOf(values):
            return " or ".join(map(words, values))
        case Within(values):
            return f"nothing but {words(values)}"
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


def sentence(difference: Difference) -> str:
    """Return ``md:hot.bitmap is none, wanted internal``, with its remedy; no value of a secret."""
    if difference.secret:
        why = f" ({difference.want.reason})" if isinstance(difference.want, Unknown) else ""
        found = f"cannot be known{why}" if difference.unknown else "is not the secret that is declared"
        return _with_remedy(f"{difference.path} {found}", difference.remedy)
    match difference.found, difference.want:
        case str(found), str(want) if "\n" in want:
            return _with_remedy(f"{difference.path} is not as wanted", difference.remedy) + _changes(found, want)
    return _with_remedy(
        f"{difference.path} is {words(difference.found)}, wanted {words(difference.want)}", difference.remedy
    )


def step_line(number: int, total: int, text: str) -> str:
    """Return how a step is named, the same in the preview and when it runs."""
    return f"step {number}/{total}: {text}"


def outline(plan: Plan, differences: Iterable[Difference] = ()) -> str:
    """Return *plan* as a person reads it before it runs.

    What differs (where *differences* are worth telling), what is there, every step and its losses, what is left.
    """
    return "\n".join(_outline(plan, differences))


def _outline(plan: Plan, differences: Iterable[Difference]) -> Iterator[str]:
    for difference in differences:
        yield f"differs: {sentence(difference)}"
    yield from plan.notes
    for number, step in enumerate(plan.steps, start=1):
        yield step_line(number, len(plan.steps), step.text)
        for loss in step.destroys if isinstance(step, Command) else ():
            yield f"    destroys {loss}"
    for difference in plan.by_hand:
        yield f"by hand: {sentence(difference)}"


def changes(found: Mapping[str, str | None], wanted: Mapping[str, str]) -> str:
    """Return what will change in each file, as a unified diff; a file that is not there comes whole."""
    lines: list[str] = []
    for path, text in wanted.items():
        before, after = (found.get(path) or "").splitlines(), text.splitlines()
        changed = [*difflib.unified_diff(before, after, path, path, "as found", "as wanted", lineterm="")]
        left_out = len(changed) - CHANGES_MAX
        lines += changed[:CHANGES_MAX] + ([f"… and {left_out} lines more"] if left_out > 0 else [])
    return "\n".join(lines)


def _changes(found: str, want: str) -> str:
    """Return the lines that go and those that come."""
    lines = difflib.ndiff(found.splitlines(), want.splitlines())
    return "".join(f"\n    {line}" for line in lines if line[0] in "-+")


def _number(value: float | None) -> str:
    return str(normalise(value))


def _with_remedy(text: str, remedy: str) -> str:
    return f"{text}; {remedy}" if remedy else text

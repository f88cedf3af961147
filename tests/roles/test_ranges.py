"""Each number among the variables of roles has a minimum and a maximum, and one outside of them is refused."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from rackwright.core.repository import RoleSource
from rackwright.kinds.role.refusals import refusals
from rackwright.schema.variables import range_problems
from tests.support.sources import ROOT

ROLES = {path.name: RoleSource.load(path) for path in sorted((ROOT / "roles").iterdir()) if path.is_dir()}
NUMBERS = ("int", "float")
WITHOUT_RANGE: Mapping[str, str] = {}
"""Numbers that need no range, by role and path, with the reason."""
NEGATIVE_OR_ZERO: Mapping[str, str] = {
    "alertmanager.quarantine_port": "0 is no port: the fleet declares no quarantine",
    "device_plugin.gpus": "the first GPU has the index 0",
    "jetson.power_mode": "nvpmodel counts its modes from 0",
}
"""Numbers that may be zero or negative, with the reason."""


def numbers(options: Mapping[str, Mapping[str, Any]], before: str = "") -> Iterator[tuple[str, bool, bool]]:
    """Yield the path of each number, whether it has choices, and whether it is in a list."""
    for name, option in options.items():
        path = f"{before}{name}"
        if option.get("type") in NUMBERS or option.get("elements") in NUMBERS:
            yield path, "choices" in option, option.get("type") == "list"
        yield from numbers(option.get("options", {}), f"{path}.")


ALL = [
    (role, path.removeprefix(f"{role}_"), has_choices, is_list)
    for role, source in ROLES.items()
    for path, has_choices, is_list in numbers(source.options)
]


def test_every_number_has_a_minimum_and_a_maximum() -> None:
    free = {
        f"{role}.{path}" for role, path, has_choices, _ in ALL if not has_choices and path not in ROLES[role].ranges
    }

    assert free == WITHOUT_RANGE.keys()
    assert len(ALL) >= 20


def test_ranges_belong_to_numbers() -> None:
    known = {(role, path) for role, path, _, _ in ALL}

    assert {(role, path) for role, source in ROLES.items() for path in source.ranges} <= known
    for role, source in ROLES.items():
        for path, (low, high) in source.ranges.items():
            assert low < high
            assert low > 0 or f"{role}.{path}" in NEGATIVE_OR_ZERO, f"{role}.{path}"


def at(path: str, value: object, is_list: bool) -> dict[str, Any]:
    """Return settings with *value* at *path*; all mappings above it stand in lists."""
    *above, last = path.split(".")
    settings: dict[str, Any] = {last: [value] if is_list else value}
    for key in reversed(above):
        settings = {key: [settings]}
    return settings


@pytest.mark.parametrize(("role", "path", "has_choices", "is_list"), ALL, ids=[f"{each[0]}.{each[1]}" for each in ALL])
def test_a_number_outside_of_its_range_is_refused(role: str, path: str, has_choices: bool, is_list: bool) -> None:
    source = ROLES[role]
    system = next(iter(source.by_os))
    if has_choices:
        assert [*source.problems(system, at(path, 99, is_list))]
        return
    low, high = source.ranges[path]
    for wrong in (low - 1, high + 1, -1, -(10**30), 10**30, math.inf, -math.inf, math.nan):
        assert [*range_problems(source.ranges, at(path, wrong, is_list))], wrong
    for right in (low, high):
        assert not [*range_problems(source.ranges, at(path, right, is_list))]
    for default in [source.defaults.get(f"{role}_{path}")]:
        assert default is None or not [*range_problems(source.ranges, {path: default})]


@pytest.mark.parametrize(
    ("role", "settings"), [("base", {"clock_offset_seconds": 0}), ("base", {"clock_offset_seconds": -1.5})]
)
def test_a_role_refuses_it_with_its_path(role: str, settings: dict[str, Any]) -> None:
    [problem] = refusals(ROLES[role], "debian-12", settings)

    assert problem.diagnostic.expected == "a number from 0.001 to 60"
    assert problem.path == ("clock_offset_seconds",)

"""The situations of a tier: every host is in exactly one, and docs/explanation/tiers.md lists them all."""

from collections.abc import Callable, Mapping
from inspect import get_annotations
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings

from rackwright.facts.view import UnknownFact
from rackwright.kinds.tier import assemble, create, enlarge, grow, repair, replace, resume
from rackwright.kinds.tier.situation import Situation, situation
from tests.kinds.tier.scenarios import (
    DECLARED,
    NEW,
    TIERS,
    Scenario,
    adopt,
    bring,
    note,
    scenario,
    scenarios,
    stop,
)

SITUATIONS = tuple(each.__name__ for each in get_args(Situation))
TABLE = Path(__file__).parents[3] / "docs/explanation/tiers.md"
FUNCTIONS = (
    create.create, create.complete, assemble.assemble, resume.resume, grow.grow, replace.replace, enlarge.enlarge,
    repair.repair,
)  # fmt: skip


def table() -> dict[str, dict[str, str]]:
    """Return the rows of the table in docs/explanation/tiers.md by situation, each by the heads of its columns."""
    lines = [line.strip().strip("|").split("|") for line in TABLE.read_text().splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip().strip("`") for cell in line] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_the_table_has_each_situation_with_the_function_that_plans_it():
    planned = {get_annotations(each, eval_str=True)[list(get_annotations(each))[1]]: each for each in FUNCTIONS}

    assert {row: each["planned by"] for row, each in table().items()} == {
        situation.__name__: function.__name__ for situation, function in planned.items()
    }
    assert sorted(table()) == sorted(SITUATIONS)


class Reading:
    """A scenario as the table reads it, without the code under test."""

    def __init__(self, case: Scenario) -> None:
        spec, facts, self.declared = case.spec, case.facts, {*case.spec.serials}
        self.ours = spec.declared.array is None
        self.owner: Mapping[str, Any] = facts.owner(case.owner_key) or {}
        self.names = {drive.name: drive.serial for drive in facts.drives}
        self.array = next((each for each in facts.arrays if spec.array_key in (each.md_name, each.uuid)), None)
        self.superblocks = self._superblocks(case)
        self.unfinished = self.ours and self.owner.get("phase") == "creating" and not self.owner.get("formatted")
        nothing_noted = self.owner.get("phase") in (None, "removed")
        self.nothing = self.ours and self.array is None and not self.superblocks and nothing_noted
        self.runs = self.array is not None and self.array.array_state not in ("clear", "inactive")
        self.more = self.runs and len(spec.members) > self.array.devices
        self.cut_off = self.runs and self.array.condition == "interrupted"
        self.larger = self.ours and self.runs and (spec.member_kib or 0) > self.array.member_bytes // 1024
        self.others = self.runs and (self._noted() != self.declared or self._has_strangers())

    def _superblocks(self, case: Scenario) -> set[str]:
        """Return who bears a superblock of the array, but for drives that it has gone on without."""
        blocks = {drive.serial: drive.superblock for drive in case.facts.drives if drive.superblock}
        keys = {case.spec.array_key}
        ours = {serial: each for serial, each in blocks.items() if {each.array_name, each.array_uuid} & keys}
        oldest = min((each.events for serial, each in ours.items() if serial in self.declared), default=0)
        return {serial for serial, each in ours.items() if serial in self.declared or each.events >= oldest}

    def _noted(self) -> set[str]:
        gone = set() if self.ours else self.declared - {*self.names.values()}
        return {*self.owner.get("serials", self.superblocks | gone)}

    def _has_strangers(self) -> bool:
        """Return whether a drive works in the array that is not declared, and whose place no declared one shares."""
        working = [each for each in self.array.members if "faulty" not in each.state and each.name in self.names]
        shared = {each.slot for each in working if self.names[each.name] in self.declared} - {None}
        return any(self.names[each.name] not in self.declared and each.slot not in shared for each in working)


RECOGNISED: dict[str, Callable[[Reading], bool]] = {
    "Blank": lambda seen: seen.nothing,
    "HalfMade": lambda seen: seen.unfinished,
    "StoppedArray": lambda seen: not (seen.runs or seen.nothing or seen.unfinished),
    "InterruptedReshape": lambda seen: seen.cut_off and not (seen.more or seen.unfinished),
    "Growing": lambda seen: seen.more and not seen.unfinished,
    "Replacing": lambda seen: seen.others and not (seen.more or seen.cut_off or seen.unfinished),
    "Enlarging": lambda seen: seen.larger and not (seen.more or seen.cut_off or seen.others or seen.unfinished),
    "Running": lambda seen: (
        seen.runs and not (seen.more or seen.cut_off or seen.others or seen.larger or seen.unfinished)
    ),
}
"""The column *recognised by* of the table: each condition by itself, in no order."""


def test_each_condition_of_the_table_is_checked():
    assert RECOGNISED.keys() == table().keys()


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_every_tier_is_in_exactly_one_situation_or_refused(case):
    """
    One condition of the table holds, and it is that of the situation; facts that cannot tell are a refusal.
    """
    try:
        present = situation(case.spec, case.facts, case.facts.owner(case.owner_key) or {})
    except UnknownFact:
        plan = case.plan()
        assert plan.refusals and not plan.steps  # another machine, or an unknown owner, may add a refusal
        return
    seen, plan = Reading(case), case.plan()

    assert [name for name, holds in RECOGNISED.items() if holds(seen)] == [type(present).__name__]
    assert not (plan.steps and plan.refusals)


def declared(case: Scenario, wish: str) -> None:
    DECLARED[wish](case)
    bring(case, NEW[0], "blank", "outside")


EXAMPLES: dict[str, Callable[[Scenario], None]] = {
    "Blank": lambda case: stop(case, "blank"),
    "HalfMade": lambda case: note(case, "creating", "keep", (), "keep"),
    "StoppedArray": lambda case: stop(case, "stopped"),
    "InterruptedReshape": lambda case: case.found.update(sync_action="idle", reshape_position="8192"),
    "Growing": lambda case: declared(case, "one more"),
    "Replacing": lambda case: declared(case, "member 0 becomes new"),
    "Enlarging": lambda case: declared(case, "larger"),
    "Running": lambda case: None,
}


@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.parametrize("tier", ["gpu-01/hot", "gpu-02/warm", "willow/warm"])
def test_each_situation_has_a_plan_of_its_own(tier, name):
    """
    No situation is a name alone: a tier can be in it, and nothing is refused.
    """
    case = scenario(tier)
    EXAMPLES[name](case)

    assert type(case.situation()).__name__ == name
    plan = case.plan()
    assert plan.refusals == ()
    assert bool(plan.steps) == (name != "Running")


@pytest.mark.parametrize("phase", ["creating", "removed", "absent"])
@pytest.mark.parametrize("how", ["running", "stopped", "blank"])
def test_nothing_is_made_under_an_array_that_was_taken_over(phase, how):
    """
    Whatever its owner file says: it is stopped, or it runs.
    """
    case = scenario("gpu-01/hot")
    adopt(case)
    if how != "running":
        stop(case, how)
    note(case, phase, "keep", (), "keep")

    assert type(case.situation()).__name__ == ("Running" if how == "running" else "StoppedArray")
    assert not case.plan().creates


@pytest.mark.parametrize("name", sorted(TIERS))
def test_a_tier_as_it_is_declared_runs(name):
    assert type(scenario(name).situation()).__name__ == "Running"

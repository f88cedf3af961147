"""What a plan may destroy: content with consent, content of an interrupted creation, superblocks of former members."""

import re
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings

from rackwright.core.contract import Command, Plan
from rackwright.facts import content
from rackwright.kinds.tier.commands import DRIVES
from tests.kinds.tier.scenarios import Scenario, scenarios
from tests.kinds.tier.test_situation import table

MAKES = re.compile(r"--create\b|\bmkfs\.|\bluksFormat\b")
"""Commands that make an array, a filesystem or a LUKS header: what was there before is lost."""
ERASES = re.compile(r"\bwipefs\b|\bluksErase\b|erase-member|\bblkdiscard\b|\bdd of=")
"""Commands of a removal."""
LETS_GO = "--zero-superblock"


def runs(plan: Plan) -> Iterator[Command]:
    return (step for step in plan.steps if isinstance(step, Command))


def serials_of(step: Command) -> list[str]:
    return re.findall(r"\$\{drive(?:-if-present)?:([^}]+)\}", " ".join(step.argv))


def wiped(plan: Plan) -> set[str]:
    return {step.argv[2] for step in runs(plan) if step.argv[:2] == (DRIVES, "wipe")}


def is_consented(case: Scenario, serial: str) -> bool:
    """Return whether a consent names all that is on a drive: one of the command, or a line where writes would show."""
    drive = case.facts.drive(serial)
    line = None if drive.unwitnessed_content else case.spec.wipe.get(serial)
    return content.covers(case.repository.consents.get(serial, line), drive.content)


def is_of_the_creation(case: Scenario, serial: str) -> bool:
    owner, block = case.facts.owner(case.owner_key) or {}, case.facts.drive(serial).superblock
    unfinished = owner.get("phase") == "creating" and not owner.get("formatted")
    return unfinished and serial in owner["serials"] and block and case.spec.array_key == block.array_name


def has_place(case: Scenario, serial: str) -> bool:
    entry = case.member(serial)
    return entry is not None and entry["slot"] is not None


def losses(case: Scenario, plan: Plan) -> set[str]:
    """Return what a plan destroys, in the words of the table; anything else is an error."""
    found = set()
    for serial in wiped(plan):
        assert is_consented(case, serial) or is_of_the_creation(case, serial), serial
        found.add("content with consent" if is_consented(case, serial) else "content of the creation")
    for step in runs(plan):
        text = " ".join(step.argv)
        if LETS_GO in text:
            found.add("superblocks of former members")
            continue
        assert not ERASES.search(text), text
        assert bool(step.destroys) == (step.argv[:2] == (DRIVES, "wipe")), text
        assert step.creates == bool(MAKES.search(text)), text
    return found


def check_drives_that_come(case: Scenario, plan: Plan) -> None:
    """Check that each drive that comes is declared, and blank, wiped or a member, and that the step says so."""
    for step in runs(plan):
        for serial in serials_of(step) if {"--create", "--add", "--re-add"} & {*step.argv} else ():
            drive = case.facts.drive(serial)
            assert serial in case.spec.serials
            if "back into" in step.text:
                assert drive.superblock.array_uuid == case.found["uuid"]
                continue
            assert not drive.content or serial in wiped(plan)
            assert step.expects[serial] == drive.content_after_wipe
            assert "--add" not in step.argv or not has_place(case, serial)


def check_drives_that_go(case: Scenario, plan: Plan) -> None:
    """Check that a superblock is erased only on a drive that is declared no more."""
    for step in runs(plan):
        assert LETS_GO not in " ".join(step.argv) or not {*serials_of(step)} & {*case.spec.serials}


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(scenarios())
def test_a_plan_destroys_what_the_table_allows_its_situation_and_nothing_else(case):
    """
    Content goes with consent alone, or where an interrupted creation wrote it; no member of an array is wiped; and
    nothing is made but where no data can be.
    """
    plan = case.plan()
    if not plan.steps:
        return
    name = type(case.situation()).__name__

    assert losses(case, plan) <= {each.strip() for each in table()[name]["may destroy"].split(",")} - {"nothing"}
    assert not plan.creates or name in ("Blank", "HalfMade")
    assert plan.creates or not [serial for serial in wiped(plan) if has_place(case, serial)]
    check_drives_that_come(case, plan)
    check_drives_that_go(case, plan)

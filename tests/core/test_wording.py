"""The words that previews, warnings and errors share."""

import pytest

from rackwright.core.contract import (
    Absent,
    Between,
    Command,
    Difference,
    OneOf,
    Plan,
    Put,
    UnknownValue,
    Within,
)
from rackwright.core.wording import (
    CHANGES_MAX,
    format_changes,
    format_difference,
    format_manual,
    format_plan,
    format_value,
)

OPEN = Difference("box:a", "lid", "shut", "open", remedy="shut it")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("internal", "internal"),
        (5000, "5000"),
        (True, "yes"),
        (("a", "b"), "a, b"),
        ((), "none"),
        (Absent(), "absent"),
        (UnknownValue("no permission"), "unknown (no permission)"),
        (OneOf(("optimal", ("a", "b"))), "optimal or a, b"),
        (Between(5), "at least 5"),
        (Between(None, 7.5), "at most 7.5"),
        (Between(3_801_600_000_000, 3_878_400_000_000), "3801600000000 to 3878400000000"),
        (Within(("a", "b")), "only a, b"),
    ],
    ids=repr,
)
def test_values_are_written_as_a_person_writes_them(value, expected):
    assert format_value(value) == expected


def test_a_difference_is_a_sentence_with_its_remedy():
    assert format_difference(OPEN) == "box:a.lid is open, wanted shut; shut it"
    assert format_difference(Difference("box:a", "lid", "shut", Absent())) == "box:a.lid is absent, wanted shut"


def test_of_a_text_only_the_lines_that_differ_are_reported():
    want = "[Mount]\nWhat=/dev/md/hot\nOptions=noatime\n"
    found = want.replace("noatime", "relatime")

    assert format_difference(Difference("unit:hot", "content", want, found, remedy="mend it")).splitlines() == [
        "unit:hot.content is not as wanted; mend it",
        "    - Options=relatime",
        "    + Options=noatime",
    ]
    assert format_difference(Difference("unit:hot", "content", want, Absent())) == (
        "unit:hot.content is absent, wanted a text of 3 lines"
    )


@pytest.mark.parametrize("found", ["hunter2", UnknownValue("hunter2 unreadable"), Absent()], ids=repr)
def test_no_value_of_a_secret_is_reported(found):
    assert "hunter" not in format_difference(Difference("file:/k", "digest", "hunter1", found, secret=True))


def test_a_plan_is_reported_in_the_order_it_is_read():
    """
    What is there, every step with what it destroys, then what is left to a person.
    """
    steps = (Command("wipe RW-1", ("wipefs",), destroys=("RW-1: ext4 3f2a",)), Put("write the unit", "/x", ""))

    assert format_plan(Plan(steps, by_hand=(OPEN,), notes=("RW-1, 4 TB: ext4 3f2a",))).splitlines() == [
        "RW-1, 4 TB: ext4 3f2a",
        "step 1/2: wipe RW-1",
        "    destroys RW-1: ext4 3f2a",
        "step 2/2: write the unit",
        "by hand: box:a.lid is open, wanted shut; shut it",
    ]
    assert format_plan(Plan()) == ""
    assert format_plan(Plan(), [OPEN]) == "differs: box:a.lid is open, wanted shut; shut it"


def test_missing_things_with_the_same_remedy_are_one_line():
    enrol = "run `rackwright enrol`"
    factors = [
        Difference(f"factor:{who}", name, 0, Absent(), remedy=enrol) for who in "ab" for name in ("key", "codes")
    ]

    assert format_manual([*factors, OPEN, Difference("drive:S1", "size", 1, Absent(), remedy="find it")]) == [
        "box:a.lid is open, wanted shut; shut it",
        "factor:a, factor:b are missing; help: run `rackwright enrol`",
        "drive:S1 is missing; help: find it",
    ]


def test_long_changes_of_a_file_are_cut():
    text = format_changes({"/etc/x": None}, {"/etc/x": "line\n" * 300})

    assert len(text.splitlines()) == CHANGES_MAX + 1
    assert text.splitlines()[-1] == "… and 203 lines more"

"""Drives that become members: their content is overwritten with consent alone."""

import re
from pathlib import Path

import pytest

from rackwright.core.contract import Command
from rackwright.facts.facts import Facts
from rackwright.facts.storage import DriveFacts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.tier.commands import DRIVES
from tests.kinds.tier.conftest import SERIALS, planned, refused, texts
from tests.support.mutations import drive
from tests.support.recorded_hosts import FREE, WRITES


@pytest.mark.parametrize(
    ("signature", "content"),
    [
        ({"type": "ext4", "uuid": "3f2a"}, "ext4 3f2a 9c1e, data 77aa"),
        ({"type": "xfs", "uuid": "11", "label": "pay, roll\n"}, "xfs 11 pay%2c%20roll%0a 9c1e, data 77aa"),
        ({"type": "linux_raid_member", "uuid": "u"}, "linux_raid_member u 9c1e, data 77aa"),
        (None, "data 77aa"),
    ],
)
def test_a_drive_with_content_is_refused_until_the_consent_names_it(blank, signature, content):
    """
    The refusal shows what is there and the line to paste; that line, and no other, lets it go.
    """
    entry = drive(blank, SERIALS[2])
    entry.update(FREE, sample=["data 77aa"], signatures=[{"label": None, **signature}] if signature else [])
    entry.update(witnesses=entry["witnesses"][: len(entry["signatures"])])

    refusals = refused(planned(blank))
    given_up = planned(blank, wipe={SERIALS[2]: content})

    assert f"{SERIALS[2]}: the drive has {content!r}" in refusals
    assert f'{{{SERIALS[2]}: "{content}"}}' in refusals
    assert texts(given_up)[1] == f"wipe {SERIALS[2]}: {content}"
    assert given_up.steps[1].expects == {SERIALS[2]: content}
    assert given_up.steps[1].destroys == (f"{SERIALS[2]}: {content}",)
    assert given_up.steps[2].expects == {serial: "data 77aa" if serial == SERIALS[2] else "" for serial in SERIALS}
    assert refused(planned(blank, wipe={SERIALS[2]: content.replace("77aa", "0000")}))
    assert refused(planned(blank, wipe={SERIALS[1]: content}))


UNWITNESSED = [
    {"signatures": [{"type": "crypto_LUKS", "uuid": "11", "label": None}], "witnesses": [None]},
    {"signatures": [{"type": "LVM2_member", "uuid": "Qx-1", "label": None}], "witnesses": [None]},
    {"signatures": [{"type": "swap", "uuid": None, "label": "s"}], "witnesses": [None]},
    {"signatures": [{"type": "gpt", "uuid": "77aa", "label": None}], "witnesses": [None]},  # and no partition is seen
    {"sample": ["first MiB 77aa"]},
    {"parts": [{"place": "p1", "size_bytes": 1 << 30, "signatures": [], "witnesses": [], "sample": ["last MiB 5f"]}]},
]


@pytest.mark.parametrize("carries", UNWITNESSED)
def test_where_nothing_shows_a_later_write_a_line_in_the_fleet_is_not_enough(blank, carries):
    """
    The consent of a command is, for the kernel's count of writes is part of it.
    """
    drive(blank, SERIALS[2]).update(carries)
    content = Facts(blank).drive(SERIALS[2]).content

    refusals = refused(planned(blank, wipe={SERIALS[2]: content}))
    assert content.endswith(WRITES)
    assert "show in no superblock, so a line in the fleet is not enough" in refusals
    assert f"rackwright up STACK --consent '{SERIALS[2]}={content}'" in refusals
    assert not planned(blank, consents={SERIALS[2]: content}).refusals

    drive(blank, SERIALS[2])["writes"] = WRITES.replace("8", "16")
    assert refused(planned(blank, consents={SERIALS[2]: content}))


def test_the_content_of_partitions_is_named_and_needs_consent_by_name(blank):
    ext4 = {"type": "ext4", "uuid": "3f2a", "label": "payroll2027"}
    part = {"place": "p1", "size_bytes": 1 << 30, "signatures": [ext4], "witnesses": ["9c1e"], "sample": []}
    table = {"signatures": [{"type": "gpt", "uuid": None, "label": None}], "witnesses": [None]}
    drive(blank, SERIALS[2]).update(table, parts=[part], sample=["first MiB 77aa"])
    content = "gpt, first MiB 77aa, p1 ext4 3f2a payroll2027 9c1e"

    assert f"the drive has {content!r}" in refused(planned(blank))
    assert not planned(blank, wipe={SERIALS[2]: content}).refusals

    part["witnesses"] = ["0000"]  # as after a mount
    assert refused(planned(blank, wipe={SERIALS[2]: content}))


UNCHECKED = re.compile(r"wipefs -\w*f|\bdd if=|blkdiscard|sgdisk|--zero-superblock .*\$\{drive")
"""Commands that erase a drive without a look at its content."""


KINDS = sorted((Path(__file__).parents[3] / "rackwright/kinds").rglob("*.py"))


@pytest.mark.parametrize("path", KINDS, ids=lambda path: path.stem)
def test_no_command_erases_a_drive_unseen(path):
    """
    One process holds the drive, looks at it and writes: see rackwright.hosts.onhost.on_drives.
    """
    assert not UNCHECKED.findall(path.read_text())


def test_each_step_that_gives_a_drive_to_an_array_says_what_may_be_on_it(blank):
    drive(blank, SERIALS[2]).update(sample=["data 77aa"])
    steps = [step for step in planned(blank, wipe={SERIALS[2]: "data 77aa"}).steps if isinstance(step, Command)]

    writing = [step for step in steps if any("${drive:" in each for each in step.argv) or step.argv[0] == DRIVES]

    assert [step.argv[0] for step in writing] == [DRIVES, "mdadm"]
    assert all(step.expects for step in writing)


def test_content_that_older_facts_lack_cannot_be_consented_to(blank):
    for name in ("parts", "witnesses", "held"):
        without = {key: value for key, value in drive(blank, SERIALS[2]).items() if key != name}
        with pytest.raises(UnknownFact, match=f"the facts have no {name}: an older version of the probe wrote them"):
            DriveFacts({**without, "sample": ["data 77aa"]}, "drive").content  # noqa: B018


@pytest.mark.parametrize(
    ("left", "goes"),
    [
        ({"signatures": [], "witnesses": [], "sample": ["data 77aa"]}, True),
        ({"sample": ["first MiB 77aa", "data 77aa"]}, True),
        ({"signatures": [], "witnesses": [], "sample": ["data 0000"]}, False),
        ({"signatures": [{"type": "xfs", "uuid": "3f2a", "label": None}], "sample": ["data 77aa"]}, False),
        ({"witnesses": ["0000"]}, False),
        ({"sample": ["first MiB 77aa", "data 77aa", "last MiB 5f2c"]}, False),
    ],
)
def test_consent_covers_what_an_interrupted_wipe_leaves_and_nothing_new(blank, left, goes):
    drive(blank, SERIALS[2]).update(FREE, signatures=[{"type": "ext4", "uuid": "3f2a", "label": None}])
    drive(blank, SERIALS[2]).update(left)

    plan = planned(blank, wipe={SERIALS[2]: "ext4 3f2a 9c1e, first MiB 77aa, data 77aa"})

    assert bool(plan.refusals) is not goes
    assert any(text.startswith(f"wipe {SERIALS[2]}") for text in texts(plan)) is goes


def test_a_mounted_drive_is_refused_even_with_consent(blank):
    drive(blank, SERIALS[0]).update(mountpoints=["/mnt"], sample={"unknown": "in use"})

    assert "the drive is mounted at /mnt" in refused(planned(blank, wipe={SERIALS[0]: "data 9c1e"}))


def test_a_drive_in_use_cannot_be_planned_over(blank):
    drive(blank, SERIALS[0]).update(holders=["dm-0"], sample={"unknown": "in use by dm-0"})

    assert f"{SERIALS[0]}: the content of the drive is unknown: drives" in (refusals := refused(planned(blank)))
    assert "in use by dm-0" in refusals

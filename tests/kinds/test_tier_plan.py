"""What is done to a tier, and what is refused, by what is found on its host."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.storage import Drive
from rackwright.facts.view import NotKnown
from rackwright.kinds import diff as comparison
from rackwright.kinds.contract import Put, Run, Unknown
from rackwright.kinds.tier.commands import DRIVES
from tests.kinds.conftest import FREE, RESOURCES, STACK, WRITES, recorded
from tests.kinds.mutations import array, drive, without

TIER = RESOURCES["gpu-01/hot"]
SERIALS = [member.serial for member in TIER.spec.members]


@pytest.fixture
def raw():
    return recorded("gpu-01")


@pytest.fixture
def blank(raw):
    """The host before anything was made: the same drives, nothing on them."""
    stop(raw)
    for serial in SERIALS:
        clear(raw, serial)
    raw["owners"] = raw["texts"] = raw["units"] = raw["files"] = {}
    return raw


def clear(raw, serial):
    drive(raw, serial).update(FREE, signatures=[], witnesses=[], superblock=None, sample=[], holders=[])


def stop(raw):
    """Stop the array: what was on it is no longer seen."""
    found = array(raw, TIER.spec.array_key)
    without(raw["filesystems"], device=found["name"])
    without(raw["mounts"], device=found["name"])
    without(raw["arrays"], name=found["name"])
    for serial in SERIALS:
        drive(raw, serial).update(holders=[], sample=["data 5a5a5a5a5a5a5a5a"], **FREE)


def owner(raw, **changes):
    told = {"id": "gpu-01/hot", "fleet": "rack", "serials": SERIALS, **changes}
    raw["owners"] = {**raw["owners"], "tier-hot": told}


def planned(raw, consents=None, **changes):
    """Return the plan of the tier; *consents* are those of the command."""
    spec = TIER.spec.model_copy(update=changes)
    house = replace(STACK.house, consents=consents or {})
    claims = TIER.kind.claims(spec, house)
    facts = Facts(raw)
    return TIER.kind.plan(spec, comparison.diff(claims, TIER.kind.observe(claims, facts)), facts, house)


def texts(plan):
    return [step.text for step in plan.steps]


def refused(plan):
    assert plan.steps == ()
    return "\n".join(str(refusal.error()) for refusal in plan.refusals)


def test_blank_drives_become_a_tier(blank):
    plan = planned(blank)

    assert texts(plan) == [
        "note in the owner file: creating",
        f"make the array hot: raid10 over {', '.join(SERIALS)}",
        "make xfs on hot",
        "note in the owner file: creating and formatted",
        "write /etc/mdadm/mdadm.conf.d/hot.conf",
        "write /etc/udev/rules.d/62-tier-hot.rules",
        "write /etc/systemd/system/srv-hot.mount",
        "reload systemd",
        "enable srv-hot.mount",
        "mount /srv/hot",
        "note in the owner file: ready",
    ]
    assert plan.notes == tuple(f"{serial} (nvme, 512MB): blank where it was sampled" for serial in SERIALS)
    assert plan.steps[1].expects == dict.fromkeys(SERIALS, "")
    assert plan.creates


@pytest.mark.parametrize(
    ("level", "size", "asked"),
    [
        ("raid10", 512_000_000, True),
        ("raid5", (16 << 30) - 1, True),
        ("raid6", 16 << 30, False),
        ("raid1", 512_000_000, False),
        ("raid0", 512_000_000, False),
    ],
)
def test_where_stripes_can_move_small_members_have_room_in_front_of_their_data(level, size, asked, blank):
    """
    On larger ones mdadm itself leaves as much.
    """
    drives = tuple(part.model_copy(update={"size_bytes": size}) for part in TIER.spec.members)
    for part in drives:
        drive(blank, part.serial).update(size_bytes=size)

    argv = planned(blank, level=level, members=drives, **({"chunk_kib": 0} if level == "raid1" else {})).steps[1].argv
    assert ("--data-offset=16384K" in argv) == asked


def test_no_kernel_name_is_ever_planned(blank):
    """
    Drives go by serial until the moment a step runs.
    """
    named = [word for step in planned(blank).steps if isinstance(step, Run) for word in step.argv]

    assert not [word for word in named if word.startswith(("/dev/sd", "/dev/nvme", "/dev/md1"))]


def test_an_initramfs_learns_of_the_array(blank):
    blank["initramfs"] = [{"path": "/boot/initrd.img-6.1.0", "mtime_ns": 1}]

    assert "put it into the initramfs" in texts(planned(blank))


def test_a_small_xfs_has_two_allocation_groups_so_that_its_log_fits(blank):
    """
    The rack's hot tier is RAID10 of four half-gigabyte drives on the twin: 971 MiB. Of terabytes mkfs.xfs knows best.
    """
    [small] = [step for step in planned(blank).steps if isinstance(step, Run) and "mkfs.xfs" in step.argv]

    assert small.argv[-2:] == ("su=512k,sw=2,agcount=2", "${device:gpu-01:hot}")


@pytest.mark.parametrize(
    ("signature", "content"),
    [
        ({"type": "ext4", "uuid": "3f2a"}, "ext4 3f2a 9c1e, data 77aa"),
        ({"type": "xfs", "uuid": "11", "label": "pay, roll\n"}, "xfs 11 pay%2c%20roll%0a 9c1e, data 77aa"),
        ({"type": "linux_raid_member", "uuid": "u"}, "linux_raid_member u 9c1e, data 77aa"),
        (None, "data 77aa"),
    ],
)
def test_what_a_drive_carries_is_refused_until_it_is_given_up_by_name(blank, signature, content):
    """
    The refusal shows what is there and the line to paste; that line, and no other, lets it go.
    """
    entry = drive(blank, SERIALS[2])
    entry.update(FREE, sample=["data 77aa"], signatures=[{"label": None, **signature}] if signature else [])
    entry.update(witnesses=entry["witnesses"][: len(entry["signatures"])])

    said = refused(planned(blank))
    given_up = planned(blank, wipe={SERIALS[2]: content})

    assert f"{SERIALS[2]}: got {content!r} on it" in said
    assert f'{{{SERIALS[2]}: "{content}"}}' in said
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

    said = refused(planned(blank, wipe={SERIALS[2]: content}))
    assert content.endswith(WRITES)
    assert "show in no superblock, so a line in the fleet is not enough" in said
    assert f"rackwright up STACK --consent '{SERIALS[2]}={content}'" in said
    assert not planned(blank, consents={SERIALS[2]: content}).refusals

    drive(blank, SERIALS[2])["writes"] = WRITES.replace("8", "16")
    assert refused(planned(blank, consents={SERIALS[2]: content}))


def test_what_is_in_partitions_is_named_and_given_up_by_name(blank):
    ext4 = {"type": "ext4", "uuid": "3f2a", "label": "payroll2027"}
    part = {"place": "p1", "size_bytes": 1 << 30, "signatures": [ext4], "witnesses": ["9c1e"], "sample": []}
    table = {"signatures": [{"type": "gpt", "uuid": None, "label": None}], "witnesses": [None]}
    drive(blank, SERIALS[2]).update(table, parts=[part], sample=["first MiB 77aa"])
    content = "gpt, first MiB 77aa, p1 ext4 3f2a payroll2027 9c1e"

    assert f"got {content!r} on it" in refused(planned(blank))
    assert not planned(blank, wipe={SERIALS[2]: content}).refusals

    part["witnesses"] = ["0000"]  # as after a mount
    assert refused(planned(blank, wipe={SERIALS[2]: content}))


UNCHECKED = re.compile(r"wipefs -\w*f|\bdd if=|blkdiscard|sgdisk|--zero-superblock .*\$\{drive")
"""Commands that erase a drive without a look at what is on it."""
KINDS = sorted((Path(__file__).parents[2] / "rackwright/kinds").rglob("*.py"))


@pytest.mark.parametrize("path", KINDS, ids=lambda path: path.stem)
def test_no_command_erases_a_drive_unseen(path):
    """
    One process holds the drive, looks at it and writes: see rackwright.apply.on_drives.
    """
    assert not UNCHECKED.findall(path.read_text())


def test_each_step_that_gives_a_drive_to_an_array_says_what_may_be_on_it(blank):
    drive(blank, SERIALS[2]).update(sample=["data 77aa"])
    steps = [step for step in planned(blank, wipe={SERIALS[2]: "data 77aa"}).steps if isinstance(step, Run)]

    writing = [step for step in steps if any("${drive:" in each for each in step.argv) or step.argv[0] == DRIVES]

    assert [step.argv[0] for step in writing] == [DRIVES, "mdadm"]
    assert all(step.expects for step in writing)


def test_what_older_facts_do_not_tell_cannot_be_given_up(blank):
    for name in ("parts", "witnesses", "held"):
        without = {key: value for key, value in drive(blank, SERIALS[2]).items() if key != name}
        with pytest.raises(NotKnown, match=f"the facts have no {name}: they are of an older version"):
            Drive({**without, "sample": ["data 77aa"]}, "drive").content  # noqa: B018


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


def test_every_drive_that_carries_something_is_named_at_once(blank):
    for serial in SERIALS[:3]:
        drive(blank, serial)["sample"] = ["data 9c1e"]

    said = refused(planned(blank))

    assert [serial for serial in SERIALS if f"{serial}: got" in said] == SERIALS[:3]


def test_a_missing_member_is_refused(blank):
    without(blank["drives"], serial=SERIALS[0])

    assert f"{SERIALS[0]}: got no such drive" in refused(planned(blank))


def test_a_member_of_another_size_is_refused(blank):
    drive(blank, SERIALS[0])["size_bytes"] = 256_000_000

    assert f"{SERIALS[0]}: got size_bytes 256000000" in refused(planned(blank))


def test_a_mounted_drive_is_refused_even_with_consent(blank):
    drive(blank, SERIALS[0]).update(mountpoints=["/mnt"], sample={"unknown": "in use"})

    assert "got it mounted at /mnt" in refused(planned(blank, wipe={SERIALS[0]: "data 9c1e"}))


def test_a_drive_in_use_cannot_be_planned_over(blank):
    drive(blank, SERIALS[0]).update(holders=["dm-0"], sample={"unknown": "in use by dm-0"})

    assert f"{SERIALS[0]}: got no look at what is on it (drives" in (told := refused(planned(blank)))
    assert "in use by dm-0" in told


def test_another_machine_is_refused(blank):
    blank["identity"]["serial"] = "ANOTHER"

    assert "got ANOTHER; the fleet says RW-GPU-01" in refused(planned(blank))


def test_another_fleets_tier_is_refused(raw):
    owner(raw, fleet="elsewhere", phase="ready")

    assert "of gpu-01/hot in fleet elsewhere" in refused(planned(raw))


def test_a_stopped_array_is_assembled(raw):
    """
    Absence is a difference: its members are there, so it is brought back, and never made anew.
    """
    stop(raw)

    plan = planned(raw)

    assert texts(plan) == ["assemble the array hot", "mount /srv/hot"]
    assert not plan.creates


@pytest.mark.parametrize("cleared", [1, 4])
def test_zeroed_superblocks_never_lead_to_a_create(raw, cleared):
    stop(raw)
    for serial in SERIALS[:cleared]:
        clear(raw, serial)

    assert "nothing is made anew where data was" in refused(planned(raw))


def test_a_lost_state_is_adopted(raw):
    """
    An array of ours by name and members, without an owner file, is taken over as it is.
    """
    del raw["owners"]["tier-hot"]

    assert texts(planned(raw)) == ["note in the owner file: ready"]


def test_an_array_with_another_member_is_not_ours(raw):
    """
    The same name over other drives is foreign.
    """
    del raw["owners"]["tier-hot"]
    for entry in (drive(raw, SERIALS[0]), drive(raw, "RW01-SAS0")):
        entry["serial"] = {SERIALS[0]: "FOREIGN"}.get(entry["serial"], entry["serial"])

    assert "members" in refused(planned(raw))


@pytest.mark.parametrize("name", ["level", "chunk_kib"])
def test_what_would_lose_the_data_is_refused(raw, name):
    changed = {"level": "raid1", "chunk_kib": 64}[name]

    said = refused(planned(raw, **{name: changed}))

    assert f"md {name}" in said
    assert "destroy" not in said
    assert f"Declare the {name.partition('_')[0]} that the array has" in said


def test_a_filesystem_that_was_not_found_is_looked_for_and_nothing_is_given_up(raw):
    """
    A tool that prints nothing is no proof that no data is there.
    """
    raw["filesystems"].clear()

    said = refused(planned(raw))

    assert "md filesystem type" not in said and "filesystem type: got none" in said
    assert "Nothing is made over it: look with `findmnt`" in said
    assert "destroy" not in said


def test_members_that_are_missing_are_brought_back_and_nothing_is_given_up(raw):
    without(raw["arrays"], md_name="gpu-01:hot")
    drive(raw, SERIALS[0])["superblock"] = None

    assert "Bring the drives back and run up, or assemble what is left by hand." in refused(planned(raw))
    assert "destroy" not in refused(planned(raw))


def test_another_mount_point_is_refused(raw):
    assert "got it mounted at /srv/hot; declared is /srv/new" in refused(planned(raw, mount="/srv/new"))


def test_something_else_mounted_there_is_refused(raw):
    raw["mounts"].append({"target": "/srv/hot", "device": "sdz", "type": "ext4", "options": ["rw"]})

    assert "got sdz mounted there" in refused(planned(raw))


@pytest.mark.parametrize(
    ("break_it", "steps"),
    [
        (
            lambda raw: without(raw["mounts"], target="/srv/hot"),
            ["mount /srv/hot"],
        ),
        (lambda raw: array(raw, "gpu-01:hot").update(bitmap="none"), ["set the bitmap of hot to internal"]),
        (
            lambda raw: raw["texts"].update({"/etc/mdadm/mdadm.conf.d/hot.conf": "# nothing\n"}),
            ["write /etc/mdadm/mdadm.conf.d/hot.conf"],
        ),
        (
            lambda raw: raw["units"]["srv-hot.mount"].update(enabled="masked"),
            ["write /etc/systemd/system/srv-hot.mount", "reload systemd", "enable srv-hot.mount"],
        ),
        (
            lambda raw: next(m for m in raw["mounts"] if m["target"] == "/srv/hot").update(options=["ro", "noatime"]),
            ["mount /srv/hot again with noatime,rw"],
        ),
    ],
    ids=["unmounted", "bitmap", "conf", "masked", "options"],
)
def test_what_can_be_mended_is(raw, break_it, steps):
    """
    Each with its own steps and no others.
    """
    break_it(raw)

    plan = planned(raw)

    assert texts(plan) == steps
    assert plan.by_hand == ()


def test_a_pulled_drive_is_left_to_a_person(raw):
    without(raw["drives"], serial=SERIALS[0])

    plan = planned(raw)

    assert plan.steps == ()
    assert {item.path for item in plan.by_hand if not item.unknown} == {"md:gpu-01:hot.members"}


def test_a_returned_drive_is_taken_back(raw):
    """
    The member that fell out is in the machine again, still the one it was: only what it missed is copied.
    """
    found = array(raw, "gpu-01:hot")
    found["members"] = found["members"][1:]
    found["degraded"] = 1

    plan = planned(raw)

    assert "take RW01-NVME0 back into hot" in texts(plan)
    assert plan.by_hand == ()


@pytest.mark.parametrize("formatted", [False, True])
def test_an_interrupted_making_goes_on(raw, formatted):
    """
    Before it was noted as formatted nothing can be on it, so it is formatted; afterwards never again.
    """
    owner(raw, phase="creating", formatted=formatted)
    without(raw["mounts"], target="/srv/hot")

    steps = texts(planned(raw))

    assert ("make xfs on hot" in steps) is not formatted
    assert not any("make the array" in text for text in steps)
    assert steps[-2:] == ["mount /srv/hot", "note in the owner file: ready"]


def test_a_half_made_array_is_made_again(raw):
    """
    The power went while superblocks were written: the drives carry only what we put there.
    """
    stop(raw)
    clear(raw, SERIALS[3])
    owner(raw, phase="creating")

    steps = texts(planned(raw))

    assert [text.split(":")[0] for text in steps[1:5]] == [
        *(f"wipe {serial}" for serial in SERIALS[:3]),
        "make the array hot",
    ]


def test_removal_needs_consent(raw):
    plan = TIER.kind.removal(TIER.spec, Facts(raw), STACK.house, consent=False)

    assert "a tier goes only with consent" in refused(plan)


def test_removal_leaves_nothing(raw, blank):
    plan = TIER.kind.removal(TIER.spec, Facts(recorded("gpu-01")), STACK.house, consent=True)
    owner(blank, phase="removed")
    again = TIER.kind.removal(TIER.spec, Facts(blank), STACK.house, consent=True)

    assert texts(plan) == [
        "note in the owner file: removing",
        "unmount /srv/hot",
        "remove /etc/systemd/system/srv-hot.mount",
        "reload systemd",
        "erase the xfs on hot",
        "stop the array hot",
        *(f"erase the md superblock on {serial}" for serial in SERIALS),
        "remove /etc/udev/rules.d/62-tier-hot.rules",
        "remove /etc/mdadm/mdadm.conf.d/hot.conf",
        f"note in the owner file: removed from {', '.join(SERIALS)}",
    ]
    assert again.steps == ()


def test_a_removed_tier_may_be_made_again(blank):
    owner(blank, phase="removed")

    assert planned(blank).creates


def test_the_owner_file_tells_whose_it_is(blank):
    put = planned(blank).steps[-1]

    assert isinstance(put, Put)
    assert json.loads(put.content) == {
        "id": "gpu-01/hot",
        "fleet": "rack",
        "phase": "ready",
        "serials": SERIALS,
    }


def test_what_a_scrub_has_found_is_for_a_person(raw):
    warm = RESOURCES["gpu-01/warm"]
    array(raw, warm.spec.array_key)["mismatch_count"] = 128
    claims = warm.kind.claims(warm.spec, STACK.house)
    found = comparison.diff(claims, warm.kind.observe(claims, Facts(raw)))

    plan = warm.kind.plan(warm.spec, found, Facts(raw), STACK.house)
    assert plan.steps == ()
    assert [(item.name, item.severity) for item in plan.by_hand] == [("mismatch_count", "warning")]


@pytest.mark.parametrize(
    ("level", "lost", "state"), [("raid6", 2, "degraded"), ("raid6", 3, "failed"), ("raid5", 2, "failed")]
)
def test_an_array_that_has_lost_too_many_has_failed(raw, level, lost, state):
    found = array(raw, "gpu-01:warm")
    found.update(level=level, degraded=lost)
    for member in found["members"][:lost]:
        member["state"] = ["faulty"]

    [warm] = [each for each in Facts(raw).arrays if each.md_name == "gpu-01:warm"]
    assert warm.condition == state


@pytest.mark.parametrize("second", ["xfs", "ext4", "LUKS"])
def test_two_signatures_on_one_array_are_two_and_neither_is_taken_for_its_content(raw, second):
    """
    No step is planned, and no remedy is for another filesystem than declared.
    """
    device = array(raw, TIER.spec.array_key)["name"]
    if second == "LUKS":
        raw["luks_headers"] = [{"device": device, "uuid": "1"}]
    else:
        first = next(entry for entry in raw["filesystems"] if entry["device"] == device)
        raw["filesystems"].append({**first, "type": second, "uuid": "another"})
    spec = TIER.spec
    claims, facts = TIER.kind.claims(spec, STACK.house), Facts(raw)
    seen = TIER.kind.observe(claims, facts)
    found = seen[f"filesystem:{spec.carrier}"]

    assert all(isinstance(value, Unknown) and "has 2 signatures" in value.reason for value in found.values())
    assert second in found["type"].reason and "which of them is alive" in found["type"].reason
    assert TIER.kind.plan(spec, comparison.diff(claims, seen), facts, STACK.house).steps == ()

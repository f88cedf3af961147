"""A tier that runs: what is repaired, what is refused, and what is left to a person."""

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import UnknownValue
from rackwright.facts.facts import Facts
from tests.kinds.tier.conftest import SERIALS, TIER, planned, refused, texts
from tests.support.mutations import array, drive, without
from tests.support.recorded_hosts import RESOURCES, STACK


def test_a_lost_state_is_adopted(raw):
    """
    An array of ours by name and members, without an owner file, is taken over as it is.
    """
    del raw["owners"]["tier-hot"]

    assert texts(planned(raw)) == ["note in the owner file: ready"]


@pytest.mark.parametrize("name", ["level", "chunk_kib"])
def test_what_would_lose_the_data_is_refused(raw, name):
    changed = {"level": "raid1", "chunk_kib": 64}[name]

    refusals = refused(planned(raw, **{name: changed}))

    assert f"md {name}" in refusals
    assert "destroy" not in refusals
    assert f"Declare the {name.partition('_')[0]} that the array has" in refusals


def test_a_filesystem_that_was_not_found_is_searched_and_not_lost(raw):
    """
    A tool that prints nothing is no proof that no data is there.
    """
    raw["filesystems"].clear()

    refusals = refused(planned(raw))

    assert "md filesystem type" not in refusals and "filesystem type: got none" in refusals
    assert "Nothing is made over it: look with `findmnt`" in refusals
    assert "destroy" not in refusals


def test_another_mount_point_is_refused(raw):
    assert "hot is mounted at /srv/hot; /srv/new" in refused(planned(raw, mount="/srv/new"))


def test_something_else_mounted_there_is_refused(raw):
    raw["mounts"].append({"target": "/srv/hot", "device": "sdz", "type": "ext4", "options": ["rw"]})

    assert "sdz is mounted there" in refused(planned(raw))


def test_a_part_of_it_mounted_there_differs_and_is_refused(raw):
    """
    A directory of the tier over the tier has the right device, and hides all other data.
    """
    [mount] = [mount for mount in raw["mounts"] if mount["target"] == "/srv/hot"]
    raw["mounts"].append({**mount, "root": "/sub"})

    assert "only /sub of it is mounted there" in refused(planned(raw))
    raw["mounts"][-1]["root"] = "/"
    assert not planned(raw).refusals


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
    assert {item.path for item in plan.by_hand if not item.is_unknown} == {"md:gpu-01:hot.members"}


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


def test_what_a_scrub_has_found_is_for_a_person(raw):
    warm = RESOURCES["gpu-01/warm"]
    array(raw, warm.spec.array_key)["mismatch_count"] = 128
    claims = warm.kind.claims(warm.spec, STACK.repository)
    found = comparison.diff(claims, warm.kind.observe(claims, Facts(raw)))

    plan = warm.kind.plan(warm.spec, found, Facts(raw), STACK.repository)
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
    claims, facts = TIER.kind.claims(spec, STACK.repository), Facts(raw)
    seen = TIER.kind.observe(claims, facts)
    found = seen[f"filesystem:{spec.carrier}"]

    assert all(isinstance(value, UnknownValue) and "has 2 signatures" in value.reason for value in found.values())
    assert second in found["type"].reason and "which of them is alive" in found["type"].reason
    assert TIER.kind.plan(spec, comparison.diff(claims, seen), facts, STACK.repository).steps == ()


def test_a_drive_with_the_superblock_of_another_array_is_not_taken_back(raw):
    """
    The array may have been made again under the same name: what the drive bears is older data.
    """
    found = array(raw, "gpu-01:hot")
    found["members"] = found["members"][1:]
    found["degraded"] = 1
    drive(raw, SERIALS[0])["superblock"]["array_uuid"] = "0:0:0:0"

    plan = planned(raw)

    assert plan.steps == ()
    assert {item.name for item in plan.by_hand if not item.is_unknown} == {"members", "state"}

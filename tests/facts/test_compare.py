"""Two observations of one host: a changed setting is reported, and what changes by itself is not."""

import copy

import pytest

from rackwright.facts.compare import changed_paths
from rackwright.facts.facts import Facts
from tests.support import recorded_facts


def paths_changed_by(change):
    before = recorded_facts.raw(recorded_facts.TODAY)
    after = copy.deepcopy(before)
    change(after)
    return changed_paths(Facts(before), Facts(after))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda raw: raw["files"]["/etc/fstab"].update(digest="other"), "files./etc/fstab.digest"),
        (lambda raw: raw["files"].pop("/etc/fstab"), "files./etc/fstab"),
        (lambda raw: raw["owners"].update({"tier-hot": {"id": "x"}}), "owners.tier-hot"),
        (lambda raw: raw["arrays"][0].update(bitmap="internal"), "arrays.md126.bitmap"),
        (lambda raw: raw["drives"].pop(), None),
        (lambda raw: raw["mounts"].pop(), "mounts"),
        (lambda raw: raw.__setitem__("packages", {"unknown": "gone"}), "packages"),
        (lambda raw: raw.update(swap_file={"active": True}), "swap_file"),
    ],
)
def test_what_is_set_otherwise_is_reported_by_its_path(change, path):
    found = paths_changed_by(change)

    assert len(found) >= 1
    assert path is None or any(each.startswith(path) for each in found)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(taken_at=0.0),
        lambda raw: raw["arrays"][0].update(array_state="active", sync_action="check"),
        lambda raw: next(each for each in raw["drives"] if each["superblock"])["superblock"].update(events=99),
        lambda raw: raw["sysctls"].update({"kernel.random.uuid": "another"}),
        lambda raw: raw["units"]["udev.service"].update(active="activating"),
    ],
)
def test_what_moves_by_itself_is_not(change):
    assert paths_changed_by(change) == ()

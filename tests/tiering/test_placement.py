"""Placement decides which directories move: age, number, watermark and use, and never one of them twice."""

import pytest

from rackwright.schema.tier_placement import PlacementRule
from rackwright.tiering import placement
from rackwright.tiering.placement import DAY_SECONDS, Item, Listing, Relocation, Stay

NOW = 100.0 * DAY_SECONDS


def item(path: str, days: float, size: int = 100, files: int = 1, in_use: bool = False) -> Item:
    """Return a directory that changed *days* ago."""
    return Item(path, size, files, NOW - days * DAY_SECONDS, in_use)


def rule(**values: object) -> PlacementRule:
    common = {"tier": "warm", "directory": "models", "to": {"bucket": "models"}}
    return PlacementRule.model_validate({**common, **values})


def fates(rule: PlacementRule, *items: Item, used: int = 900, target: str = "") -> dict[str, str]:
    """Return the target of each directory that moves, and the reason of each that stays, by path."""
    listing = Listing("gpu-01", "/srv/warm", used, 1000, items)
    return {
        fate.path.removeprefix("/srv/warm/"): fate.target if isinstance(fate, Relocation) else fate.reason
        for fate in placement.plan("old", rule, listing, target, NOW)
    }


def test_old_directories_become_archives_named_after_their_host():
    assert fates(rule(older_days=14), item("models/a", 20), item("models/b", 3)) == {
        "models/a": "gpu-01.models.a",
        "models/b": "it changed 3 days ago, and moves after 14",
    }


def test_shared_directories_have_the_same_archive_on_all_hosts():
    assert fates(rule(shared=True), item("models/a", 1)) == {"models/a": "models.a"}


def test_another_tier_gets_the_same_path():
    found = fates(rule(to={"tier": "cold"}), item("runs/a/1", 1), target="/srv/cold")

    assert found == {"runs/a/1": "/srv/cold/runs/a/1"}


def test_the_newest_stay_in_each_directory():
    found = fates(
        rule(keep=2, directory="runs/*"),
        *(item(f"runs/a/{step}", 10 - step) for step in range(4)),
        item("runs/b/0", 50),
    )

    assert [path for path, text in found.items() if text.startswith("gpu-01")] == ["runs/a/0", "runs/a/1"]
    assert found["runs/b/0"] == "it is one of the newest 2"


def test_nothing_moves_that_a_process_uses_or_that_is_empty():
    assert fates(rule(), item("models/a", 99, in_use=True), item("models/b", 99, files=0)) == {
        "models/a": "a process uses it",
        "models/b": "it has no file",
    }


@pytest.mark.parametrize(
    ("used", "moved"), [(900, ["c", "b"]), (901, ["c", "b", "a"]), (800, ["c"]), (700, []), (950, ["c", "b", "a"])]
)
def test_above_the_watermark_the_oldest_move_until_it_is_reached(used, moved):
    """
    A tier of 1000 bytes with a watermark of 70 %, and directories of 100 bytes.
    """
    found = fates(
        rule(above_percent=70), *(item(name, days) for name, days in (("a", 1), ("b", 2), ("c", 3))), used=used
    )

    assert [path for path, text in found.items() if text.startswith("gpu-01")] == moved


def test_a_name_that_no_archive_can_have_stays():
    assert "cannot be the name" in fates(rule(), item("models/two words", 9))["models/two words"]


def test_the_first_rule_wins_and_nothing_moves_out_of_a_moving_directory():
    first = Relocation("runs", "gpu-01", "/srv/warm/runs/a", "models", "x", 1)
    inside = Relocation("steps", "gpu-01", "/srv/warm/runs/a/1", "models", "y", 1)
    beside = Relocation("steps", "gpu-01", "/srv/warm/runs/ab", "models", "z", 1)
    elsewhere = Relocation("steps", "gpu-02", "/srv/warm/runs/a/1", "models", "z", 1)

    combined = placement.combine((first, inside, beside, elsewhere))

    assert combined == (first, Stay("steps", "gpu-01", inside.path, "rule runs moves it"), beside, elsewhere)

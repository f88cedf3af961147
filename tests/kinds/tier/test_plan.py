"""Tiers that are not planned at all: another machine, another fleet, another array."""

from tests.kinds.tier.conftest import SERIALS, owner, planned, refused
from tests.support.mutations import drive


def test_another_machine_is_refused(blank):
    blank["identity"]["serial"] = "ANOTHER"

    assert "the machine has ANOTHER; RW-GPU-01, as the fleet declares" in refused(planned(blank))


def test_another_fleets_tier_is_refused(raw):
    owner(raw, fleet="elsewhere", phase="ready")

    assert "belongs to gpu-01/hot in fleet elsewhere" in refused(planned(raw))


def test_an_array_with_another_member_is_not_ours(raw):
    """
    The same name over other drives is foreign.
    """
    del raw["owners"]["tier-hot"]
    for entry in (drive(raw, SERIALS[0]), drive(raw, "RW01-SAS0")):
        entry["serial"] = {SERIALS[0]: "FOREIGN"}.get(entry["serial"], entry["serial"])

    assert "members" in refused(planned(raw))

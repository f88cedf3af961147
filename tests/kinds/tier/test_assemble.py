"""An array that is stopped: assembled from all of its members, and never made again."""

import pytest

from tests.kinds.tier.conftest import SERIALS, clear, planned, refused, stop, texts
from tests.support.mutations import drive, without


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

    assert "rackwright makes no array over data" in refused(planned(raw))


def test_missing_members_are_brought_back_without_a_consent(raw):
    without(raw["arrays"], md_name="gpu-01:hot")
    drive(raw, SERIALS[0])["superblock"] = None

    assert "Bring the drives back and run up, or assemble the rest by hand." in refused(planned(raw))
    assert "destroy" not in refused(planned(raw))

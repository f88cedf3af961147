"""Which GPUs NVIDIA's driver and its library tell of."""

import pytest

from rackwright.schema import nvidia
from rackwright.schema.catalogue import PROFILES


def test_each_board_of_a_profile_is_reported():
    assert nvidia.gpus(PROFILES["inference-t4"]) == ("t4",) * 8
    assert nvidia.gpus(PROFILES["virtual"]) == ()


@pytest.mark.parametrize("profile", ["training-mi300x", "training-gaudi2", "edge-orin", "edge-atlas500"])
def test_what_another_driver_is_for_is_not_among_them(profile: str):
    assert nvidia.gpus(PROFILES[profile]) == ()

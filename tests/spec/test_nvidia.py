"""Which GPUs are asked for: those that NVIDIA's library tells of, and no others."""

import pytest

from rackwright.spec import nvidia
from rackwright.spec.catalogue import GPUS, PROFILES


def test_each_board_of_a_profile_is_counted():
    assert nvidia.gpus("inference-t4") == ("t4",) * 8
    assert nvidia.gpus("virtual") == ()


def test_what_another_maker_makes_or_what_is_no_board_is_not_among_them(monkeypatch: pytest.MonkeyPatch):
    profile, board = PROFILES["inference-t4"], GPUS["t4"]
    monkeypatch.setitem(GPUS, "other", board.model_copy(update={"pci": ("1002:74a1",)}))
    monkeypatch.setitem(GPUS, "soc", board.model_copy(update={"pci": ()}))
    monkeypatch.setitem(PROFILES, "mixed", profile.model_copy(update={"gpus": {"other": 2, "t4": 1, "soc": 1}}))

    assert nvidia.gpus("mixed") == ("t4",)

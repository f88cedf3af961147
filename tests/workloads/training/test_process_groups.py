"""The process group of torchrun: its backend, its device and its time limit, without a second process."""

from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.support.training_runs import config
from workloads.training.device import Device
from workloads.training.workers.torchrun import Torchrun


def joined(kind: str, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what PyTorch gets to join the group of a process on *device*."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **more: given.update(more, backend=backend))
    monkeypatch.setattr(dist, "get_rank", lambda: 3)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    workers = Torchrun(config(), Device(kind, "a device", device, 0, None))
    assert (workers.rank, workers.size, workers.local_rank, workers.local_size) == (3, 4, 1, 2)
    return given


@pytest.mark.parametrize("kind", ["cuda", "rocm"])
def test_a_process_with_a_gpu_names_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it NCCL guesses the GPU from the rank, and a wrong guess waits for ever."""
    gpu = torch.device("cuda", 1)
    given = joined(kind, gpu, monkeypatch)
    assert given == {"backend": "cpu:gloo,cuda:nccl", "device_id": gpu, "timeout": timedelta(minutes=30)}


@pytest.mark.parametrize(("kind", "backend"), [("cpu", "gloo"), ("gaudi", "cpu:gloo,hpu:hccl")])
def test_other_processes_name_no_device(kind: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = joined(kind, torch.device("cpu"), monkeypatch)
    assert given == {"backend": backend, "device_id": None, "timeout": timedelta(minutes=30)}

"""Who has started a run, and how many: another than it is for is refused before anybody joins anything."""

import pytest

from tests.support.training_runs import config
from workloads.errors import UserError
from workloads.training.launch_check import check_launch, detect_launcher, is_leader
from workloads.training.workers.horovod import check_operations
from workloads.training.workers.join import join

HOROVOD = {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
ELASTIC = {**HOROVOD, "HOROVOD_ELASTIC": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("none", 1)),
        (HOROVOD, ("horovod", 2)),
        (TORCHRUN, ("torchrun", 2)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}, ("horovod", 4)),
    ],
)
def test_a_launcher_is_known_by_its_environment(environment: dict[str, str], expected: tuple[str, int]) -> None:
    assert detect_launcher(environment) == expected


@pytest.mark.parametrize(
    ("changes", "environment", "expected"),
    [
        (["launcher=horovod"], TORCHRUN,
         "launcher: the run was started by torchrun, with 2 processes; a start by horovod. "
         "Start it with `horovodrun -np 2 python -m workloads.training …`, or write launcher: torchrun."),
        (["launcher=torchrun"], HOROVOD,
         "launcher: the run was started by horovod, with 2 processes; a start by torchrun. "
         "Start it with `torchrun --nproc-per-node 2 -m workloads.training …`, or write launcher: horovod."),
        (["launcher=horovod", "world=4"], {},
         "launcher: the run was started by hand, with 1 processes; a start by horovod. "
         "Start it with `horovodrun -np 4 python -m workloads.training …`, or write launcher: none."),
        (["world=3"], HOROVOD, "world: 2 processes were started; 3 processes. Start 3 processes."),
        (["global_batch=25"], HOROVOD,
         "global_batch: a batch of 25 cannot be divided by 2; equal parts for 2 processes. "
         "Write 24 or 26, or start another number of processes."),
        (["global_batch=30", "accumulate=4"], HOROVOD,
         "global_batch: a batch of 30 cannot be divided by 8; equal parts for 2 processes that accumulate 4 parts. "
         "Write 24 or 32, or accumulate=3, or start another number of processes."),
        (["global_batch=4", "accumulate=8"], {},
         "global_batch: a batch of 4 cannot be divided by 8; equal parts for 1 processes that accumulate 8 parts. "
         "Write 8, or accumulate=4, or start another number of processes."),
        (["global_batch=1"], HOROVOD,
         "global_batch: a batch of 1 cannot be divided by 2; equal parts for 2 processes. "
         "Write 2, or start another number of processes."),
        (["elastic=true"], HOROVOD,
         "elastic: the run was not started by an elastic launcher; Horovod's elastic launcher. "
         "Start it with `horovodrun --min-np …`, or write elastic: false."),
        ([], ELASTIC,
         "elastic: the run was started by an elastic launcher; a fixed number of processes. "
         "Write elastic: true, or leave --min-np out."),
    ],
)  # fmt: skip
def test_a_start_that_is_not_meant_is_refused(changes: list[str], environment: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError) as refused:
        check_launch(config("digits", *changes), environment)
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("changes", "environment"),
    [([], {}), ([], HOROVOD), ([], TORCHRUN), (["launcher=horovod", "world=2"], HOROVOD), (["launcher=none"], {}),
     (["elastic=true", "global_batch=25", "world=5"], ELASTIC)],
)  # fmt: skip
def test_a_start_that_is_meant_is_let_be(changes: list[str], environment: dict[str, str]) -> None:
    check_launch(config("digits", *changes), environment)


def test_a_group_of_another_size_than_its_launcher_declared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    mpirun with a Horovod that was built without MPI: each process would believe to be alone.
    """
    for name in ("HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_GLOO_RENDEZVOUS_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as refused:
        join(config("digits"), {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"})
    assert str(refused.value).startswith(
        "world: only 1 of 2 processes are in the group; 2 processes. Start the run with"
    )


@pytest.mark.parametrize("kind", ["cuda", "rocm"])
def test_horovod_without_nccl_is_refused_on_gpus(kind: str) -> None:
    with pytest.raises(UserError) as refused:
        check_operations(kind, nccl=False)
    assert str(refused.value) == (
        "launcher: Horovod is built without NCCL; Horovod with NCCL, or torchrun; "
        "the gradients of GPUs would go over host memory and TCP. "
        "Start the run with torchrun, or set operations of role workloads to NCCL."
    )
    check_operations(kind, nccl=True)
    check_operations("cpu", nccl=False)


def test_one_process_speaks_before_they_can_speak_with_each_other() -> None:
    assert is_leader({})
    assert is_leader({"HOROVOD_RANK": "0"})
    assert not is_leader(HOROVOD)
    assert not is_leader(TORCHRUN)

"""Ranks of a run with the variables of torchrun, started from a process that has imported PyTorch and transformers.

A launcher and its ranks need seconds each for these imports. `tests/workloads/training/test_launchers.py` and
`test_apart.py` start the real launchers.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch.distributed as dist

from tests.support.training_runs import ROOT, environment
from workloads.training.__main__ import main

_START = multiprocessing.get_context("forkserver")
_START.set_forkserver_preload(
    [
        "workloads.training.run",
        "torch.distributed.fsdp",
        "transformers.models.llama.modeling_llama",
        "transformers.models.deepseek_v3.modeling_deepseek_v3",
        "transformers.models.qwen3_moe.modeling_qwen3_moe",
    ]
)


def train_by_ranks(
    processes: int, out: Path, recipe: str, *changes: str, arguments: Sequence[str] = (), hosts: int = 1
) -> str:
    """Train on *hosts* with *processes* each, all of them here, and return the output of all."""
    given = [argument for change in changes for argument in ("--set", change)]
    return run_ranks(processes, _train, recipe, "--out", str(out), *given, *arguments, hosts=hosts)


def run_ranks(processes: int, target: Callable[..., None], *values: Any, hosts: int = 1) -> str:
    """Call *target* with *values* in each rank, and return the output of all; each has to succeed."""
    world = hosts * processes
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun has one
    group = environment(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(store.port), TORCHELASTIC_USE_AGENT_STORE="True",
        TORCHELASTIC_RESTART_COUNT="0", WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(processes),
    )  # fmt: skip
    with TemporaryDirectory(prefix="ranks-") as directory:
        log = Path(directory) / "log"
        ranks = []
        for rank in range(world):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank % processes), "GROUP_RANK": str(rank // processes)}
            ranks.append(_START.Process(target=_rank, args=(log, group | own, target, *values)))
            ranks[-1].start()
        try:
            running = {rank.sentinel: rank for rank in ranks}
            while running and not any(rank.exitcode for rank in ranks):
                for sentinel in wait(list(running), timeout=900):
                    running.pop(sentinel).join()  # type: ignore[call-overload]
        finally:
            for rank in ranks:
                rank.kill()
                rank.join()
        output = log.read_text()
        assert [rank.exitcode for rank in ranks] == [0] * world, output
        return output


def _rank(log: Path, variables: dict[str, str], target: Callable[..., None], *values: Any) -> None:
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    with log.open("ab") as file:
        for standard in (1, 2):
            os.dup2(file.fileno(), standard)
    target(*values)


def _train(*argv: str) -> None:
    sys.exit(main([*argv]))

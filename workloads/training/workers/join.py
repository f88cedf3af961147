"""Joining of the process group that the launcher started."""

from collections.abc import Mapping

from workloads.errors import Diagnostic, UserError
from workloads.training.config import TrainingConfig
from workloads.training.device import select_device
from workloads.training.launch_check import STARTS, check_launch, detect_launcher
from workloads.training.workers.horovod import Horovod, check_operations
from workloads.training.workers.torchrun import Torchrun
from workloads.training.workers.workers import Alone, Workers


def join(config: TrainingConfig, environment: Mapping[str, str]) -> Workers:
    """Join the process group and return it.

    Raises:
        UserError: The launcher is not the one in *config*, or the group does not have the launcher's size.
    """
    launcher, size = detect_launcher(environment)
    check_launch(config, environment)
    if launcher == "none":
        return Alone()
    try:
        workers: Workers = _horovod(config) if launcher == "horovod" else _torchrun(config, environment)
    except ImportError as error:
        problem = f"this environment lacks Horovod ({error})"
        help = "Run `rackwright toolchain workloads`, which builds Horovod, or start with torchrun"
        raise UserError(Diagnostic("launcher", problem, help=help)) from error
    if workers.size != size and not config.elastic:
        problem = f"only {workers.size} of {size} processes are in the group"
        help = f"Start the run with `{STARTS[launcher].format(size)}`"
        raise UserError(Diagnostic("world", problem, f"{size} processes", help))
    return workers


def _horovod(config: TrainingConfig) -> Horovod:
    workers = Horovod(config)
    device = select_device(config.device, workers.local_rank, workers.local_size)
    check_operations(device.kind, bool(workers.hvd.nccl_built()))
    return workers


def _torchrun(config: TrainingConfig, environment: Mapping[str, str]) -> Torchrun:
    local_rank, local_world = int(environment["LOCAL_RANK"]), int(environment["LOCAL_WORLD_SIZE"])
    device = select_device(config.device, local_rank, local_world)
    if config.sharding != "none":
        from workloads.training.workers.sharded import ShardedTorchrun  # imported here: only sharded runs need it

        return ShardedTorchrun(config, device)
    return Torchrun(config, device)

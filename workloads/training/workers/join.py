"""Joining the group that this process was started in."""

from collections.abc import Mapping

from workloads.errors import WorkloadError
from workloads.training.config import TrainingConfig
from workloads.training.device import pick
from workloads.training.launch_check import STARTS, refuse_another_start, started
from workloads.training.workers.horovod import Horovod
from workloads.training.workers.torchrun import Torchrun
from workloads.training.workers.workers import Alone, Workers


def join(config: TrainingConfig, environment: Mapping[str, str]) -> Workers:
    """Join the group, once it is the one that *config* is for, and has the size that its launcher says.

    Raises:
        WorkloadError: it is not, or has not.
    """
    launcher, size = started(environment)
    refuse_another_start(config, environment)
    if launcher == "none":
        return Alone()
    try:
        workers: Workers = Horovod(config) if launcher == "horovod" else _torchrun(config, environment)
    except ImportError as error:
        fix = "Run `rackwright toolchain workloads`, which builds it, or start with torchrun"
        raise WorkloadError("launcher", f"got {error}", "Horovod is in this environment", fix) from error
    if workers.size != size and not config.elastic:
        got = f"got {workers.size} of {size} processes in the group"
        fix = f"Start it with `{STARTS[launcher].format(size)}`"
        raise WorkloadError("world", got, "each would train alone", fix)
    return workers


def _torchrun(config: TrainingConfig, environment: Mapping[str, str]) -> Torchrun:
    local_rank, local_world = int(environment["LOCAL_RANK"]), int(environment["LOCAL_WORLD_SIZE"])
    device = pick(config.device, local_rank, local_world)
    if config.sharding == "full":
        from workloads.training.workers.sharded import Sharded  # here: others need none of what it imports

        return Sharded(config, device)
    return Torchrun(config, device)

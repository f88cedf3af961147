"""Check of the launcher and the number of processes against the configuration, without PyTorch.

A Horovod program does not fail under torchrun or without a launcher: each process takes itself for the only one and
trains alone. So launcher and number of processes are read from the environment and compared with the configuration.
"""

from collections.abc import Mapping

from workloads.errors import Diagnostic, UserError
from workloads.training.config import TrainingConfig

SIZES = {"horovod": ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE"), "torchrun": ("WORLD_SIZE",)}
"""Variables in which each launcher passes the number of processes. mpirun starts Horovod, too."""
RANKS = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "RANK")
STARTS = {
    "horovod": "horovodrun -np {} python -m workloads.training …",
    "torchrun": "torchrun --nproc-per-node {} -m workloads.training …",
    "none": "python -m workloads.training …",
}


def is_leader(environment: Mapping[str, str]) -> bool:
    """Return whether this process is rank 0 by its environment, before the processes can communicate."""
    return next((environment[name] for name in RANKS if name in environment), "0") == "0"


def detect_launcher(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return the launcher of this process and the number of processes; ``("none", 1)`` without a launcher."""
    for launcher, names in SIZES.items():
        for name in names:
            if name in environment:
                return launcher, int(environment[name])
    return "none", 1


def check_launch(config: TrainingConfig, environment: Mapping[str, str]) -> None:
    """Raise unless launcher and number of processes match *config* and its batch divides evenly.

    Raises:
        UserError: The message gives the correct launcher or number.
    """
    launcher, size = detect_launcher(environment)
    expected_size = config.world or (size if size > 1 else 2)
    elastic = environment.get("HOROVOD_ELASTIC") == "1"
    if config.launcher not in ("any", launcher):
        problem = f"the run was started by {launcher if launcher != 'none' else 'hand'}, with {size} processes"
        help = f"Start it with `{STARTS[config.launcher].format(expected_size)}`, or write launcher: {launcher}"
        raise UserError(Diagnostic("launcher", problem, f"a start by {config.launcher}", help))
    if config.elastic and not elastic:
        help = "Start it with `horovodrun --min-np …`, or write elastic: false"
        problem, expected = "the run was not started by an elastic launcher", "Horovod's elastic launcher"
        raise UserError(Diagnostic("elastic", problem, expected, help))
    if elastic and not config.elastic:
        problem, expected = "the run was started by an elastic launcher", "a fixed number of processes"
        raise UserError(Diagnostic("elastic", problem, expected, "Write elastic: true, or leave --min-np out"))
    if elastic:
        return  # the processes that are present share the batch as evenly as possible
    if config.world not in (None, size):
        problem, expected = f"{size} processes were started", f"{config.world} processes"
        raise UserError(Diagnostic("world", problem, expected, f"Start {config.world} processes"))
    if config.sharding != "none" and launcher != "torchrun":
        problem = f"the run was started by {launcher if launcher != 'none' else 'hand'}"
        help = f"Start it with `{STARTS['torchrun'].format(expected_size)}`, or write sharding: none"
        note = "only processes of torchrun can share a model"
        raise UserError(Diagnostic("sharding", problem, "a start by torchrun", help, note))
    local_size = int(environment.get("LOCAL_WORLD_SIZE", size))
    if config.sharding == "hybrid" and size % local_size:
        problem = f"{size} processes were started, and this host has {local_size} of them"
        help = "Start as many processes on each host, or write sharding: full"
        raise UserError(Diagnostic("sharding", problem, "the same number of processes on each host", help))
    shards = local_size if config.sharding == "hybrid" else size
    for name in ("tensor_parallel", "expert_parallel"):
        if shards % (number := getattr(config, name)):
            problem = f"{shards} processes share a copy of the model, in groups of {number}"
            help = f"Start a multiple of {number} processes, or write another {name}"
            raise UserError(Diagnostic(name, problem, f"a divisor of {shards}", help))
    size //= config.tensor_parallel
    parts = size * config.accumulate
    if config.global_batch % parts:
        below, above = config.global_batch // parts * parts, -(-config.global_batch // parts) * parts
        together = f" of {config.tensor_parallel} processes" if config.tensor_parallel > 1 else ""
        group = f"{size} {'groups' if together else 'processes'}{together}" + (
            f" that accumulate {config.accumulate} parts" if config.accumulate > 1 else ""
        )
        near = " or ".join(str(batch) for batch in (below, above) if batch)
        smaller = (each for each in range(config.accumulate - 1, 0, -1) if config.global_batch % (size * each) == 0)
        other = next((f"accumulate={each}, or " for each in smaller), "")
        help = f"Write {near}, or {other}start another number of processes"
        problem = f"a batch of {config.global_batch} cannot be divided by {parts}"
        raise UserError(Diagnostic("global_batch", problem, f"equal parts for {group}", help))

"""Who has started this process, and refusing where that is another than the run is for. No PyTorch is needed to say so.

A Horovod program under torchrun, or under nothing, does not fail: each process believes to be the only one, and the run
is as many runs. So who has started it, and how many there are, is read from the environment and compared.
"""

from collections.abc import Mapping

from workloads.errors import WorkloadError
from workloads.training.config import TrainingConfig

SIZES = {"horovod": ("HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE"), "torchrun": ("WORLD_SIZE",)}
"""What each launcher tells its processes of their number. mpirun starts Horovod, too."""
RANKS = ("HOROVOD_RANK", "OMPI_COMM_WORLD_RANK", "RANK")
STARTS = {
    "horovod": "horovodrun -np {} python -m workloads.training …",
    "torchrun": "torchrun --nproc-per-node {} -m workloads.training …",
    "none": "python -m workloads.training …",
}


def leader(environment: Mapping[str, str]) -> bool:
    """Return whether this process speaks for all before they can speak with each other."""
    return next((environment[name] for name in RANKS if name in environment), "0") == "0"


def started(environment: Mapping[str, str]) -> tuple[str, int]:
    """Return which launcher has started this process, and with how many others; ``("none", 1)`` where none has."""
    for launcher, names in SIZES.items():
        for name in names:
            if name in environment:
                return launcher, int(environment[name])
    return "none", 1


def refuse_another_start(config: TrainingConfig, environment: Mapping[str, str]) -> None:
    """Raise where the run is for another launcher or another number of processes, or its batch does not divide.

    Raises:
        WorkloadError: says what would be right.
    """
    launcher, size = started(environment)
    meant = config.world or (size if size > 1 else 2)
    elastic = environment.get("HOROVOD_ELASTIC") == "1"
    if config.launcher not in ("any", launcher):
        got = f"got a start by {launcher if launcher != 'none' else 'hand'}, {size} processes"
        fix = f"Start it with `{STARTS[config.launcher].format(meant)}`, or write launcher: {launcher}"
        raise WorkloadError("launcher", got, f"this run is for {config.launcher}", fix)
    if config.elastic and not elastic:
        fix = "Start it with `horovodrun --min-np …`, or write elastic: false"
        raise WorkloadError("elastic", "got a start that is not elastic", "Horovod's elastic launcher leads it", fix)
    if elastic and not config.elastic:
        fix = "Write elastic: true, or leave --min-np out"
        raise WorkloadError("elastic", "got an elastic start", "this run's processes do not come and go", fix)
    if elastic:
        return  # as many as there are at the moment share it, in parts as equal as they can be
    if config.world not in (None, size):
        raise WorkloadError(
            "world", f"got {size} processes", f"this run is for {config.world}", f"Start {config.world}"
        )
    if config.sharding == "full" and launcher != "torchrun":
        got = f"got a start by {launcher if launcher != 'none' else 'hand'}"
        fix = f"Start it with `{STARTS['torchrun'].format(meant)}`, or write sharding: none"
        raise WorkloadError("sharding", got, "torchrun's processes share a model", fix)
    parts = size * config.accumulate
    if config.global_batch % parts:
        below, above = config.global_batch // parts * parts, -(-config.global_batch // parts) * parts
        what = f"{size} processes" + (f" that accumulate {config.accumulate} parts" if config.accumulate > 1 else "")
        fix = f"Write {' or '.join(str(batch) for batch in (below, above) if batch)}, or start another number"
        raise WorkloadError("global_batch", f"got {config.global_batch}", f"{what} share it in equal parts", fix)

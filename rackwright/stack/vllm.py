"""What a language model takes of the GPUs of its hosts, by the catalogue, before any host is asked."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from rackwright.errors import DeclarationError, DeclarationErrors
from rackwright.schema.catalogue import GPUS, PROFILES
from rackwright.schema.host import Host
from rackwright.schema.server import Server, settings
from rackwright.stack.stack import Stack
from workloads.errors import WorkloadError
from workloads.serving.fit import GIB, Fit, Sizes, fit
from workloads.serving.model import Model

ROLES = ("nvidia_driver", "rocm")
"""Those that bring the drivers of the GPUs that vLLM itself serves on, with memory of their own."""


def divided(stack: Stack, name: str, server: Server, model: Model) -> dict[str, int]:
    """Return over how many GPUs each host of *server* divides *model*.

    Raises:
        DeclarationErrors: it does not fit a host, or cannot be told whether it does.
    """
    sizes = _sizes(f"servers.{name}.model.path", model)
    found: dict[str, int] = {}
    wrong: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for member in server.members(stack.fleet.hosts):
        try:
            found[member] = _fit(server, sizes, stack.fleet.hosts[member]).tensor_parallel
        except WorkloadError as error:
            wrong[error.got, error.want, error.fix].append(member)
    place = f"servers.{name}.{'hosts' if server.group is None else 'group'}"
    if wrong:
        raise DeclarationErrors(
            DeclarationError(place, f"{got} at {', '.join(hosts)}", want, fix)
            for (got, want, fix), hosts in wrong.items()
        )
    return found


def once(divided: Mapping[str, Iterable[str]]) -> Iterator[DeclarationError]:
    """Yield an error for each server that would take GPUs which another one has; *divided* has its hosts by name."""
    first: dict[str, str] = {}
    for name, hosts in divided.items():
        taken = [host for host in hosts if first.setdefault(host, name) != name]
        if taken:
            got, want = f"got {', '.join(taken)}", "each vLLM begins at a host's first GPU, and another one does there"
            fix = f"Take hosts that {first[taken[0]]} has not"
            yield DeclarationError(f"servers.{name}", got, want, fix)


def _fit(server: Server, sizes: Sizes, host: Host) -> Fit:
    told = settings(server, "127.0.0.1")
    wanted = told.tensor_parallel if "tensor_parallel" in server.set else None
    memory, count = _gpus(host)
    try:
        return fit(sizes, memory, count, told.context_tokens, told.parallel, wanted)
    except WorkloadError as error:
        others = [profile for profile in PROFILES if _fits(profile, sizes, told.context_tokens, told.parallel)]
        fix = f"{error.fix}; as it is, it fits {', '.join(others)}" if others else error.fix
        raise WorkloadError(error.where, error.got, error.want, fix) from None


def _fits(profile: str, sizes: Sizes, context_tokens: int, parallel: int) -> bool:
    try:
        fit(sizes, *_known(profile), context_tokens, parallel)
    except WorkloadError:
        return False
    return True


def _gpus(host: Host) -> tuple[int, int]:
    """Return the memory of one GPU of *host*, and how many it has."""
    if host.accelerators.mig:
        got, want = "got GPUs that are divided by MIG", "vLLM takes whole ones"
        raise WorkloadError("", got, want, "Take mig out of its role nvidia_driver, or take other hosts")
    return _known(host.profile)


def _known(profile: str) -> tuple[int, int]:
    """Return the memory of one GPU of *profile*, and how many there are; of unlike ones the least memory.

    A label's GB are counted as GiB, which is the most that they can be. By logs CUDA shows 79.1 GiB of 80, 139.8 of an
    H200's 141, 14.8 of a T4's 16.
    """
    models: Mapping[str, int] = PROFILES[profile].known("gpus") or {}
    memories = [GPUS[model].known("memory") for model in models]
    if not memories or None in memories or not all(GPUS[model].role in ROLES for model in models):
        got, want = f"got profile {profile}", "vLLM serves on GPUs of the catalogue, whose memory is known"
        raise WorkloadError("", got, want, "Say by profile which GPUs it has, or take other hosts")
    return min(memories) * GIB // 10**9, sum(models.values())


def _sizes(place: str, model: Model) -> Sizes:
    told = model.lineage.get("sizes")
    try:
        return Sizes(**told if isinstance(told, Mapping) else {})
    except (TypeError, WorkloadError):
        got, want = "got no sizes in its model.json", "they say how much memory it takes"
        raise DeclarationErrors([DeclarationError(place, got, want, "Publish the model anew")]) from None

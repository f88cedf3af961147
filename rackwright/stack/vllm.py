"""The check that language models fit the GPUs of their hosts, by the catalogue, before any connection."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.schema.catalogue import GPUS, PROFILES
from rackwright.schema.host import Host
from rackwright.schema.profile import Minimum
from rackwright.schema.server import Server, settings
from rackwright.stack.stack import Stack
from workloads.serving.fit import GIB, Fit, Sizes, fit
from workloads.serving.model import Model

ROLES = ("nvidia_driver", "rocm")
"""Roles with drivers of GPUs that vLLM supports and that have their own memory."""


def gpus_per_host(stack: Stack, name: str, server: Server, model: Model) -> dict[str, int]:
    """Return the number of GPUs over which each host of *server* divides *model*.

    Raises:
        DeclarationError: the model does not fit a host, or its size or the host's memory is unknown.
    """
    sizes = _sizes(f"servers.{name}.model.path", model)
    counts: dict[str, int] = {}
    wrong: dict[Diagnostic, list[str]] = defaultdict(list)
    for member in server.members(stack.fleet.hosts):
        try:
            counts[member] = _fit(server, sizes, stack.fleet.hosts[member]).tensor_parallel
        except UserError as error:
            wrong[error.diagnostic].append(member)
    place = f"servers.{name}.{'hosts' if server.group is None else 'group'}"
    if wrong:
        raise DeclarationError(
            *(
                replace(misfit, where=place, problem=f"{misfit.problem} at {', '.join(hosts)}")
                for misfit, hosts in wrong.items()
            )
        )
    return counts


def shared_gpu_errors(hosts_by_server: Mapping[str, Iterable[str]]) -> Iterator[Diagnostic]:
    """Yield an error for each server that shares a host, and so its GPUs, with an earlier one."""
    first: dict[str, str] = {}
    for name, hosts in hosts_by_server.items():
        shared = [host for host in hosts if first.setdefault(host, name) != name]
        if shared:
            problem, expected = (
                f"got {', '.join(shared)}",
                "each vLLM begins at a host's first GPU, which another one uses",
            )
            help = f"Choose hosts that {first[shared[0]]} does not have"
            yield Diagnostic(f"servers.{name}", problem, expected, help)


def _fit(server: Server, sizes: Sizes, host: Host) -> Fit:
    options = settings(server, "127.0.0.1")
    tensor_parallel = options.tensor_parallel if "tensor_parallel" in server.set else None
    memory, count = _gpus(host)
    try:
        return fit(sizes, memory, count, options.context_tokens, options.parallel, tensor_parallel)
    except UserError as error:
        others = [profile for profile in PROFILES if _fits(profile, sizes, options.context_tokens, options.parallel)]
        fitting = f"as it is, it fits {', '.join(others)}" if others else ""
        note = "; ".join(part for part in (error.diagnostic.note, fitting) if part)
        raise UserError(replace(error.diagnostic, note=note)) from None


def _fits(profile: str, sizes: Sizes, context_tokens: int, parallel: int) -> bool:
    try:
        fit(sizes, *_profile_gpus(profile, PROFILES[profile]), context_tokens, parallel)
    except UserError:
        return False
    return True


def _gpus(host: Host) -> tuple[int, int]:
    """Return the memory in bytes of one GPU of *host*, and the number of its GPUs."""
    if host.accelerators.mig:
        problem, expected = "got GPUs that MIG divides", "vLLM takes whole GPUs"
        raise UserError(
            Diagnostic("", problem, expected, "Remove mig from its role nvidia_driver, or choose other hosts")
        )
    return _profile_gpus(host.profile, host.minimum)


def _profile_gpus(profile: str, hardware: Minimum) -> tuple[int, int]:
    """Return the memory in bytes of one GPU of *profile*, the smallest if they differ, and the number of GPUs.

    A label's GB count as GiB, their upper limit. Logs of CUDA report 79.1 GiB of 80, 139.8 of an H200's 141, and 14.8
    of a T4's 16.
    """
    models: Mapping[str, int] = hardware.verified_value("gpus") or {}
    memories = [GPUS[model].verified_value("memory") for model in models]
    if not memories or None in memories or not all(GPUS[model].role in ROLES for model in models):
        problem, expected = f"got profile {profile}", "vLLM runs on GPUs whose memory is in the catalogue"
        raise UserError(
            Diagnostic("", problem, expected, "Set a profile with the GPUs of the host, or choose other hosts")
        )
    return min(memories) * GIB // 10**9, sum(models.values())


def _sizes(place: str, model: Model) -> Sizes:
    sizes = model.lineage.get("sizes")
    try:
        return Sizes(**sizes if isinstance(sizes, Mapping) else {})
    except (TypeError, UserError):
        problem, expected = "got no sizes in its model.json", "the sizes determine how much memory the model takes"
        raise DeclarationError(Diagnostic(place, problem, expected, "Publish the model again")) from None

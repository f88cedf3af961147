"""The check that language models fit the GPUs of their hosts, by the catalogue, before any connection."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.schema.catalogue import PROFILES
from rackwright.schema.host import Host
from rackwright.schema.profile import Minimum
from rackwright.schema.server import Server, settings
from rackwright.stack.stack import Stack
from workloads.catalogue.accelerators import gpu_memory_bytes
from workloads.serving.fit import Fit, Gpus, Load, Sizes, Wish, best_fit, fits, parse_sizes, reported_bytes
from workloads.serving.model import Model
from workloads.serving.settings import with_model_defaults


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
            counts[member] = _fit(server, model, sizes, stack.fleet.hosts[member]).layout.tensor_parallel
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


def _fit(server: Server, model: Model, sizes: Sizes, host: Host) -> Fit:
    options = with_model_defaults(settings(server, "127.0.0.1"), model.lineage)
    gpus = _gpus(host)
    load = Load(options.context_tokens, options.parallel, batch_tokens=gpus.batch_tokens)
    try:
        return best_fit(sizes, gpus, load, _wish(server))
    except UserError as error:
        others = [profile for profile in PROFILES if _fits(profile, sizes, load)]
        fitting = f"as it is, it fits {', '.join(others)}" if others else ""
        note = "; ".join(part for part in (error.diagnostic.note, fitting) if part)
        raise UserError(replace(error.diagnostic, note=note)) from None


def _wish(server: Server) -> Wish:
    """Return the declared parts of the layout of *server*; on one host, tensor parallelism alone is chosen."""
    options = settings(server, "127.0.0.1")
    return Wish(
        tensor_parallel=options.tensor_parallel if "tensor_parallel" in server.set else None,
        pipeline_parallel=1,
        data_parallel=1,
        context_parallel=1,
    )


def _fits(profile: str, sizes: Sizes, load: Load) -> bool:
    try:
        gpus = _profile_gpus(profile, PROFILES[profile])
        return any(fit.fits for fit in fits(sizes, gpus, replace(load, batch_tokens=gpus.batch_tokens)))
    except UserError:
        return False


def _gpus(host: Host) -> Gpus:
    """Return the GPUs of *host*."""
    if host.accelerators.mig:
        problem, expected = "got GPUs that MIG divides", "vLLM takes whole GPUs"
        raise UserError(
            Diagnostic("", problem, expected, "Remove mig from its role nvidia_driver, or choose other hosts")
        )
    return _profile_gpus(host.profile, host.minimum)


def _profile_gpus(profile: str, hardware: Minimum) -> Gpus:
    """Return the GPUs of *profile*; if they differ, with the memory of the smallest."""
    models: Mapping[str, int] = hardware.verified_value("gpus") or {}
    memories = [memory for model in models if (memory := gpu_memory_bytes(model)) is not None]
    if not memories or len(memories) < len(models):
        problem, expected = f"got profile {profile}", "vLLM runs on GPUs whose memory is in the catalogue"
        raise UserError(
            Diagnostic("", problem, expected, "Set a profile with the GPUs of the host, or choose other hosts")
        )
    return Gpus(reported_bytes(min(memories)), sum(models.values()))


def _sizes(place: str, model: Model) -> Sizes:
    try:
        return parse_sizes(model.lineage.get("sizes"))
    except UserError:
        problem, expected = "got no sizes in its model.json", "the sizes determine how much memory the model takes"
        raise DeclarationError(Diagnostic(place, problem, expected, "Publish the model again")) from None

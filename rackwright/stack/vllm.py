"""The check that language models fit the GPUs of their hosts, by the catalogue, before any connection."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rackwright.errors import DeclarationError, Diagnostic, UserError
from rackwright.kinds.model_server.spec import ReplicaPlace
from rackwright.schema.catalogue import PROFILES
from rackwright.schema.host import Host
from rackwright.schema.pods import cluster_of
from rackwright.schema.profile import Minimum
from rackwright.schema.run import address
from rackwright.schema.server import Server, settings
from rackwright.stack.stack import Stack
from workloads.catalogue.accelerators import gpu_memory_bytes, gpu_without_environment
from workloads.serving.fit import (
    UNKNOWN,
    Fit,
    Gpus,
    Layout,
    Load,
    Sizes,
    Wish,
    best_fit,
    fits,
    layout_fields,
    layout_notes,
    parse_sizes,
    reported_bytes,
)  # fmt: skip
from workloads.serving.model import Model
from workloads.serving.settings import with_model_defaults


@dataclass(frozen=True, slots=True)
class Placement:
    """How one host of a server takes part in serving a model."""

    layout: Layout | None = None
    """How a replica is divided; None if nothing is known or declared of it."""
    replica: ReplicaPlace | None = None


def place(stack: Stack, name: str, server: Server, model: Model | None) -> dict[str, Placement]:
    """Return the placement on each host of *server*.

    Args:
        model: The model, if this computer has it.

    Raises:
        DeclarationError: the model does not fit a replica, or its size or the hosts' memory is unknown.
    """
    sizes = _sizes(f"servers.{name}.model.path", model) if model else None
    placements: dict[str, Placement] = {}
    wrong: dict[Diagnostic, list[str]] = defaultdict(list)
    for members in replicas(server, stack.fleet.hosts):
        hosts = [stack.fleet.hosts[member] for member in members]
        try:
            if model is None or sizes is None or computes_on_processors(server):
                layout = _declared_layout(server, model is not None and sizes is None)
            else:
                layout = _fit(server, model, sizes, _replica_gpus(server, hosts)).layout
        except UserError as error:
            wrong[error.diagnostic] += members
            continue
        for rank, (member, host) in enumerate(zip(members, hosts, strict=True)):
            place = _replica_place(server, hosts, rank, host) if len(members) > 1 else None
            placements[member] = Placement(layout, replica=place)
    if wrong:
        where = f"servers.{name}.{'hosts' if server.group is None else 'group'}"
        raise DeclarationError(
            *(
                replace(misfit, where=where, problem=f"{misfit.problem} at {', '.join(members)}")
                for misfit, members in wrong.items()
            )
        )
    return placements


def notes(stack: Stack, name: str, server: Server, model: Model) -> Iterator[str]:
    """Yield notes about the layouts of *server*, which `place` has found to fit: unused GPUs, and advice of recipes."""
    sizes = _sizes(f"servers.{name}.model.path", model)
    if sizes is None or server.pods or computes_on_processors(server):
        return
    hosts = stack.fleet.hosts
    found: dict[str, list[str]] = defaultdict(list)
    for members in replicas(server, hosts):
        gpus = _replica_gpus(server, [hosts[member] for member in members])
        for note in layout_notes(sizes, _fit(server, model, sizes, gpus).layout, gpus):
            found[note] += members
    for note, noted in found.items():
        yield f"servers.{name}: on {', '.join(noted)}, {note}"


def place_in_pods(stack: Stack, name: str, server: Server, model: Model | None) -> Layout | None:
    """Return how each replica of a *server* in pods is divided; None if nothing is known or declared of it.

    Any of the hosts may have any pod: the smallest GPUs count.

    Raises:
        DeclarationError: the model does not fit a replica, its size or the hosts' memory is unknown, or other teams
            would reach vLLM's ports.
    """
    sizes = _sizes(f"servers.{name}.model.path", model) if model else None
    try:
        _check_slice(stack, server)
        if model is None or sizes is None or computes_on_processors(server):
            return _declared_layout(server, model is not None and sizes is None)
        return _fit_pods(stack, server, model, sizes).layout
    except UserError as error:
        raise DeclarationError(replace(error.diagnostic, where=f"servers.{name}.pods")) from None


def _check_slice(stack: Stack, server: Server) -> None:
    """Check that pods of other teams do not reach the ports that vLLM opens in a pod.

    Raises:
        UserError: the team has no slice.
    """
    found = cluster_of(tuple(server.members(stack.fleet.hosts)), stack.fleet.clusters)
    if server.pods is None or found is None:
        return
    name, cluster = found
    team = cluster.teams.get(server.pods.team)
    if team is not None and team.slice is None:
        problem = f"got team {server.pods.team}, which has no slice"
        expected = "a team with a slice, because a program that reaches the ports of vLLM can run code there"
        raise UserError(Diagnostic("", problem, expected, f"Add a slice to the team in cluster {name}"))


def _fit_pods(stack: Stack, server: Server, model: Model, sizes: Sizes) -> Fit:
    assert server.pods is not None
    if not server.pods.gpus:
        problem, expected = "got no gpus", "vLLM computes on GPUs, or with cpu_cache_gib on processors"
        raise UserError(Diagnostic("", problem, expected, "Declare pods.gpus, or vllm.cpu_cache_gib"))
    hosts = [stack.fleet.hosts[member] for member in server.members(stack.fleet.hosts)]
    most = min(_gpus(host).per_host for host in hosts)
    if server.pods.gpus > most:
        problem, expected = f"got {server.pods.gpus} GPUs for a pod", f"at most {most}, those of a host"
        raise UserError(Diagnostic("", problem, expected, "Correct pods.gpus"))
    memory = min(_gpus(host).memory_bytes for host in hosts)
    replica = server.vllm.replica_hosts if server.vllm else 1
    return _fit(server, model, sizes, Gpus(memory, server.pods.gpus, replica))


def computes_on_processors(server: Server) -> bool:
    return server.vllm is not None and server.vllm.cpu_cache_gib is not None


def replicas(server: Server, hosts: Mapping[str, Host]) -> list[tuple[str, ...]]:
    """Return the hosts of each replica of *server*; the first of each is its leader."""
    members, count = server.members(hosts), server.vllm.replica_hosts if server.vllm else 1
    return [members[first : first + count] for first in range(0, len(members), count)]


def _replica_place(server: Server, hosts: Sequence[Host], rank: int, host: Host) -> ReplicaPlace:
    addresses = tuple((address(each) or "").split("/")[0] for each in hosts)
    return ReplicaPlace(addresses=addresses, rank=rank, interface=host.fabric or "")


def _declared_layout(server: Server, unknown: bool = False) -> Layout | None:
    """Return the declared layout of a model that only the hosts have, or that processors compute.

    Args:
        unknown: Whether the size of the model is not known, so that it needs a declared layout.
    """
    declared = server.vllm.layout if server.vllm else {}
    hosts = server.vllm.replica_hosts if server.vllm else 1
    named = declared or "tensor_parallel" in server.set
    if unknown and not named and not computes_on_processors(server):
        problem, expected = "got no layout", "a model of unknown size is divided over GPUs as declared"
        raise UserError(Diagnostic("", problem, expected, "Declare vllm.tensor_parallel, and others if it has them"))
    if hosts > 1 and not declared:
        problem, expected = "got no layout", "without sizes or GPUs a model is divided over hosts as declared"
        raise UserError(Diagnostic("", problem, expected, "Declare vllm.tensor_parallel and vllm.pipeline_parallel"))
    if not declared:
        return None
    return Layout(**{"hosts": hosts, **layout_fields(declared)})


def _fit(server: Server, model: Model, sizes: Sizes, gpus: Gpus) -> Fit:
    options = with_model_defaults(settings(server, "127.0.0.1"), model.lineage)
    load = Load(
        options.context_tokens, options.parallel, options.vllm.kv_cache_dtype, options.vllm.speculative_tokens > 0,
        gpus.batch_tokens,
    )  # fmt: skip
    try:
        return best_fit(sizes, gpus, load, _wish(server, gpus.hosts))
    except UserError as error:
        others = [profile for profile in PROFILES if _fits(profile, sizes, load)]
        fitting = f"as it is, it fits {', '.join(others)}" if others else ""
        bare = [profile for profile in others if any(map(gpu_without_environment, PROFILES[profile].gpus))]
        missing = f"no environment of rackwright is for {', '.join(bare)}" if bare else ""
        note = "; ".join(part for part in (error.diagnostic.note, fitting, missing) if part)
        raise UserError(replace(error.diagnostic, note=note)) from None


def _replica_gpus(server: Server, hosts: Sequence[Host]) -> Gpus:
    """Return the GPUs that *server* has of *hosts*, with the memory of the smallest."""
    found = [_gpus(host) for host in hosts]
    if len({each.per_host for each in found}) > 1:
        counts = ", ".join(str(each.per_host) for each in found)
        problem, help = f"got hosts with {counts} GPUs", "Declare vllm.gpus, or hosts with as many GPUs"
        if not (server.vllm and server.vllm.gpus):
            raise UserError(Diagnostic("", problem, "the hosts of a replica have equally many", help))
    most = min(each.per_host for each in found)
    count = (server.vllm and server.vllm.gpu_count) or most
    if count > most:
        raise UserError(Diagnostic("", f"got {count} GPUs", f"at most {most}, those of a host", "Correct vllm.gpus"))
    return Gpus(min(each.memory_bytes for each in found), count, len(hosts))


def _wish(server: Server, hosts: int) -> Wish:
    """Return the declared parts of the layout of *server*.

    Without a declared part, the latent cache is not divided: its kernels are newer than the rest.
    """
    declared = dict(server.vllm.layout if server.vllm else {})
    if "tensor_parallel" in server.set:
        declared["tensor_parallel"] = settings(server, "127.0.0.1").tensor_parallel
    # each rank of an exchange of caches has a port, which other servers learn from the declaration
    ranks = {"data_parallel": 1} if server.vllm and server.vllm.kv_transfer else {}
    return Wish(**{"context_parallel": 1, "hosts": hosts, **ranks, **layout_fields(declared)})


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


def _sizes(place: str, model: Model) -> Sizes | None:
    """Return the sizes of *model*; None if its publication could not compute them, so that its layout is declared."""
    sizes = model.lineage.get("sizes")
    if isinstance(sizes, Mapping) and UNKNOWN in sizes:
        return None
    try:
        return parse_sizes(sizes)
    except UserError:
        problem, expected = "got no sizes in its model.json", "the sizes determine how much memory the model takes"
        raise DeclarationError(Diagnostic(place, problem, expected, "Publish the model again")) from None

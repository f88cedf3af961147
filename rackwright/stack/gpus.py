"""The assignment of each host's GPUs to runs, servers and Kubernetes, so that no two of them share one."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rackwright.errors import Diagnostic
from rackwright.kinds.shared.gpu_assignment import GpuAssignment
from rackwright.schema import nvidia
from rackwright.schema.gpus import are_uuids, count
from rackwright.schema.host import Host
from rackwright.schema.run import Run
from rackwright.stack.load import neighbours
from rackwright.stack.pod_gpus import DEVICE_PLUGIN, gpus_of_pods
from rackwright.stack.servers import GpuAssignments, computes_on_gpus
from rackwright.stack.stack import Stack
from workloads.catalogue.accelerators import gpu_without_environment

NO_ENVIRONMENT = "role workloads has environments for NVIDIA's GPUs and for processors, none for ROCm and others"


@dataclass(frozen=True, slots=True)
class GpuUser:
    """A run or a server that computes on GPUs."""

    owner: str
    """The name of its owner file."""
    name: str
    where: str
    """Place of the run or server in the fleet."""
    field: str
    """The field with its GPUs, below *where*; empty for a server of llama.cpp, which has all GPUs of a host."""
    selection: int | tuple[int, ...] | tuple[str, ...] | None
    hosts: tuple[str, ...]
    """Hosts with GPUs."""
    with_mig: tuple[str, ...] = ()
    """Hosts whose GPUs MIG divides; they take no part in the assignment."""
    has_environment: bool = False
    """Whether it names a Python environment of its own."""

    @property
    def is_run(self) -> bool:
        return self.where.startswith("runs.")


def assign(stack: Stack) -> tuple[GpuAssignments, list[Diagnostic]]:
    """Return the GPUs of each run and server of *stack* on each host, and errors where two would share one.

    Counts take the lowest free indices in the order of the fleet, servers first. Pods have all GPUs of a host with role
    device_plugin, or those that it declares.
    """
    users = list(_users(stack))
    checks = (_environment_errors, _kubernetes_errors, _selection_errors)
    wrong = [error for user in users for check in checks for error in check(stack, user)]
    if wrong:
        return {}, wrong
    assignments: dict[tuple[str, str], GpuAssignment] = {}
    by_host: defaultdict[str, list[GpuUser]] = defaultdict(list)
    for user in users:
        for host in user.hosts:
            by_host[host].append(user)
    for name, sharing in by_host.items():
        errors = _sharing_errors(name, sharing)
        if not errors:
            found, errors = _assign_on(name, stack.fleet.hosts[name], sharing, gpus_of_pods(stack.fleet.hosts[name]))
            assignments |= {(owner, name): assignment for owner, assignment in found.items()}
        wrong += errors
    wrong += _neighbour_errors(stack, by_host)
    first = {error.where: error for error in reversed(wrong)}
    return assignments, [error for error in wrong if first[error.where] is error]


def _users(stack: Stack) -> Iterator[GpuUser]:
    """Yield the servers and runs that compute on GPUs; MIG divides the GPUs of a host in another way.

    The device plugin of a cluster gives pods their GPUs.
    """
    hosts = stack.fleet.hosts

    def with_gpus(members: Sequence[str], mig: bool = False) -> tuple[str, ...]:
        return tuple(name for name in members if hosts[name].minimum.gpus and bool(hosts[name].accelerators.mig) is mig)

    for name, server in stack.fleet.servers.items():
        if server.on == "hosts" and computes_on_gpus(stack, name, server):
            selection, field = server.vllm.gpus if server.vllm else None, "" if server.gpu_layers else "vllm.gpus"
            members = server.members(hosts)
            parts = with_gpus(members), with_gpus(members, mig=True)
            own = server.environment is not None
            yield GpuUser(f"server-{name}", name, f"servers.{name}", field, selection, *parts, own)
    for name, run in stack.fleet.runs.items():
        if run.on == "hosts" and not _computes_on_processors(run):
            members = run.members(hosts)
            parts = with_gpus(members), with_gpus(members, mig=True)
            own = run.environment is not None
            yield GpuUser(f"run-{name}", name, f"runs.{name}", "gpus", run.gpus, *parts, own)


def _computes_on_processors(run: Run) -> bool:
    return run.set.get("device") == "cpu"


def _environment_errors(stack: Stack, user: GpuUser) -> Iterator[Diagnostic]:
    """Yield an error for each host of *user* on whose GPUs no environment of role `workloads` computes."""
    for host in () if user.has_environment else user.hosts:
        models = filter(None, map(gpu_without_environment, stack.fleet.hosts[host].minimum.gpus))
        if first := next(models, None):
            problem, expected = f"got no environment, and {host} has {first}", NO_ENVIRONMENT
            help = f"Name an environment of {host} with a build for its GPUs: environment: {{path: /opt/NAME}}"
            yield Diagnostic(user.where, problem, expected, help)


def _kubernetes_errors(stack: Stack, user: GpuUser) -> Iterator[Diagnostic]:
    """Yield an error for each host of *user* whose GPUs all belong to pods, or whose declaration leaves that open."""
    for name in (*user.hosts, *user.with_mig):
        host = stack.fleet.hosts[name]
        total, of_pods = sum(host.minimum.gpus.values()), gpus_of_pods(host)
        if not of_pods:
            continue
        divide = f"roles.{DEVICE_PLUGIN}.gpus of {name}"
        if name in user.with_mig or len(of_pods) >= total:
            have = f"got {name}, whose GPUs pods have"
            expected = f"role {DEVICE_PLUGIN} gives the GPUs of its host to the pods of Kubernetes"
            help = f"Write `on: kubernetes` for {user.name}, choose hosts without {DEVICE_PLUGIN}"
            help += "" if name in user.with_mig else f", or declare the GPUs of pods in {divide}"
            yield Diagnostic(user.where, have, expected, help)
        elif user.selection is None:
            expected = f"pods have {_list(of_pods)} of {total} GPUs, so {user.name} declares which it has"
            yield Diagnostic(
                user.where,
                f"got {name}, whose GPUs pods share",
                expected,
                f"Declare {user.field}" if user.field else "Choose another host",
            )
        elif are_uuids(user.selection):
            expected, place = f"pods have GPUs by index, in {divide}", f"{user.where}.{user.field}"
            yield Diagnostic(place, "got UUIDs", expected, "Name the GPUs by their indices")


def _list(gpus: Sequence[int]) -> str:
    return ", ".join(map(str, gpus)) or "none"


def _selection_errors(stack: Stack, user: GpuUser) -> Iterator[Diagnostic]:
    """Yield the errors of a selection by itself."""
    place, selection = f"{user.where}.{user.field}", user.selection
    if selection is None:
        return
    for name in user.hosts:
        host = stack.fleet.hosts[name]
        total = sum(host.minimum.gpus.values())
        if are_uuids(selection) and not _has_uuids(host):
            expected, help = "the driver of NVIDIA reports UUIDs of GPUs", "Name the GPUs by their indices"
            yield Diagnostic(place, f"got UUIDs, and {name} has other GPUs", expected, help)
        if isinstance(selection, tuple) and (beyond := [each for each in selection if _is_beyond(each, total)]):
            problem, help = f"got GPU {beyond[0]} of {name}", "Correct the index; the first GPU has 0"
            yield Diagnostic(place, problem, f"the last of {total} GPUs has the index {total - 1}", help)
        elif count(selection) > total:
            problem, help = f"got {count(selection)} GPUs of {name}", "Declare fewer GPUs, or other hosts"
            yield Diagnostic(place, problem, f"{total} GPUs in all", help)
    if are_uuids(selection) and len(user.hosts) > 1:
        expected, help = "a GPU with a UUID is in one host", "Name the GPUs by their indices"
        yield Diagnostic(place, f"got UUIDs and {len(user.hosts)} hosts", expected, help)


def _neighbour_errors(stack: Stack, by_host: Mapping[str, Sequence[GpuUser]]) -> Iterator[Diagnostic]:
    """Yield an error for each run or server that shares GPUs of a host with one of another stack of the project.

    Nothing counts the GPUs of two stacks together, so that both name them by index, or both by UUID.
    """
    for other in neighbours(stack):
        for theirs in _users(other):
            for name in {*theirs.hosts, *theirs.with_mig} & by_host.keys():
                for own in by_host[name]:
                    yield from _shared_errors(name, own, theirs, other.name)


def _shared_errors(host: str, own: GpuUser, theirs: GpuUser, stack: str) -> Iterator[Diagnostic]:
    owner = f"{theirs.name} of stack {stack}"
    selections = own.selection, theirs.selection
    if not all(isinstance(each, tuple) for each in selections):
        user, of = (own, "") if not isinstance(own.selection, tuple) else (theirs, f" of stack {stack}")
        expected = "runs and servers of two stacks that share a host name the GPUs that each has"
        help = f"Name the GPUs in {user.field} of {user.name}{of}, or choose hosts that {theirs.name} does not have"
        yield Diagnostic(own.where, f"got {host}, which {owner} has", expected, help)
    elif are_uuids(own.selection) is not are_uuids(theirs.selection):
        expected = f"all runs and servers of {host} name GPUs by UUID, or none: an index may be that of any UUID"
        help = f"Name the GPUs like {owner}"
        yield Diagnostic(f"{own.where}.{own.field}", f"got {own.selection}", expected, help)
    else:
        for gpu in own.selection if isinstance(own.selection, tuple) else ():
            if isinstance(theirs.selection, tuple) and gpu in theirs.selection:
                problem, expected = f"got GPU {gpu} of {host}, which {owner} has", "a GPU has one run or server"
                yield Diagnostic(f"{own.where}.{own.field}", problem, expected, "Name other GPUs")


def _is_beyond(gpu: int | str, total: int) -> bool:
    return isinstance(gpu, int) and gpu >= total


def _has_uuids(host: Host) -> bool:
    return len(nvidia.gpus(host.minimum)) == sum(host.minimum.gpus.values())


def _sharing_errors(host: str, sharing: Sequence[GpuUser]) -> list[Diagnostic]:
    """Return the errors of runs and servers that share *host* and do not declare their GPUs alike."""
    if len(sharing) < 2:
        return []
    wrong = []
    for user in sharing:
        if user.selection is None:
            other = next(each for each in sharing if each is not user)
            expected = "runs and servers that share a host declare which of its GPUs each has"
            declare = f"Declare {user.field} of {user.name}, or choose" if user.field else "Choose"
            help = f"{declare} hosts that {other.name} does not have{_in_turn(user, other)}"
            wrong.append(Diagnostic(user.where, f"got {host}, which {other.name} has", expected, help))
    by_uuid = [user for user in sharing if are_uuids(user.selection)]
    if not wrong and by_uuid and len(by_uuid) < len(sharing):
        expected = f"all runs and servers of {host} name GPUs by UUID, or none: an index may be that of any UUID"
        other = next(user for user in sharing if user not in by_uuid)
        place = f"{other.where}.{other.field}"
        wrong.append(Diagnostic(place, f"got {other.selection}", expected, f"Name the GPUs of {other.name} by UUID"))
    return wrong


def _in_turn(user: GpuUser, other: GpuUser) -> str:
    """Return the way out for two runs on a host with GPUs for one: they have them in turn."""
    return f", or declare {user.name} once {other.name} has ended" if user.is_run and other.is_run else ""


def _assign_on(
    name: str, host: Host, sharing: Sequence[GpuUser], of_pods: Sequence[int]
) -> tuple[dict[str, GpuAssignment], list[Diagnostic]]:
    """Return the assignment of each of *sharing* on the host *name*, and errors where two have one GPU.

    Args:
        of_pods: The indices of the GPUs that pods get.
    """
    total, has_uuids = sum(host.minimum.gpus.values()), _has_uuids(host)
    owners: dict[int | str, GpuUser] = {}
    wrong = []
    for user in sharing:
        for gpu in user.selection if isinstance(user.selection, tuple) else ():
            if gpu in of_pods:
                problem, place = f"got GPU {gpu} of {name}, which pods have", f"{user.where}.{user.field}"
                expected = f"role {DEVICE_PLUGIN} of {name} gives {_list(of_pods)} to pods"
                wrong.append(Diagnostic(place, problem, expected, "Name other GPUs"))
            other = owners.setdefault(gpu, user)
            if other is not user:
                place, help = f"{user.where}.{user.field}", f"Name other GPUs{_in_turn(user, other)}"
                problem, expected = f"got GPU {gpu} of {name}, which {other.name} has", "a GPU has one run or server"
                wrong.append(Diagnostic(place, problem, expected, help))
    for user in sharing:
        if isinstance(user.selection, tuple):
            continue
        free = [index for index in range(total) if index not in owners and index not in of_pods]
        wanted = total if user.selection is None else user.selection
        if wanted > len(free):
            place, problem = (
                f"{user.where}.{user.field}",
                f"got {wanted} GPUs of {name}, after {len(owners) + len(of_pods)} of others",
            )
            wrong.append(Diagnostic(place, problem, f"{total} GPUs in all", "Declare fewer GPUs, or other hosts"))
        owners |= dict.fromkeys(free[:wanted], user)
    assignments = {}
    for user in sharing:
        own = [gpu for gpu, owner in owners.items() if owner is user]
        if own:
            gpus = tuple(str(gpu) for gpu in (own if are_uuids(user.selection) else sorted(own, key=int)))
            assignments[user.owner] = GpuAssignment(gpus=gpus, has_uuids=has_uuids)
    return assignments, wrong

"""The qualification of one host, item by item, while the host is leased and idle."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

from rackwright.errors import ChangeRefused, DeclarationError, Diagnostic
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.foreign import InvalidData, parse_object
from rackwright.hosts.pool import Hosts
from rackwright.kinds.role.plan import refuse_busy
from rackwright.progress import Progress
from rackwright.qualify import gpus, tool
from rackwright.qualify.bench import Bench
from rackwright.qualify.gpus import Gpus
from rackwright.qualify.item import Figure, Item, MeasurementFailed, QualificationReport, make_item
from rackwright.qualify.network_path import NetworkPath, find_path, network_item
from rackwright.schema import nvidia
from rackwright.stack import Stack

SECONDS = 5.0
"""Duration of rackwright's own measurements."""
STREAMS = 4
"""Number of parallel TCP connections between two hosts, because one connection uses only one processor."""
HOST_MEMORY = "host memory"


def qualify(
    hosts: Hosts, stack: Stack, host: str, peer: str | None, progress: Progress, seconds: float = SECONDS
) -> QualificationReport:
    """Return the measurements of *host*, and of the network path to *peer*.

    Raises:
        DeclarationError: there is no such host.
        DeclarationError: the two hosts share no network.
        ChangeRefused: a process computes on a GPU of one of the hosts.
        HostUnreachable: a host is not reachable; it ends a running measurement itself.
        HostBusy: another operator changes one of the hosts.
    """
    declared = stack.fleet.hosts
    if errors := list(_declaration_errors(stack, host, peer)):
        raise DeclarationError(*errors)
    path = find_path(declared, host, peer) if peer else None
    with ExitStack() as locks:
        for name in sorted({host, *([peer] if peer else [])}):  # in sorted order, so that two runs cannot deadlock
            locks.enter_context(hosts.lease(name, f"{name}/qualify", partial(_report_progress, name, progress)))
        before = {name: _idle_facts(hosts, stack, name) for name in filter(None, (host, peer))}
        bench = Bench(hosts, host, f"{host}/qualify")
        items = [
            *_python_items(bench, path, hosts, seconds, progress),
            *_gpu_items(bench, stack, before[host], progress),
        ]
    return QualificationReport(stack.name, host, tuple(items))


def _declaration_errors(stack: Stack, host: str, peer: str | None) -> Iterator[Diagnostic]:
    yield from stack.unknown_host_errors(*filter(None, (host, peer)))
    if peer == host:
        help = "Name another peer, or leave it out"
        yield Diagnostic(f"{host}: peer", f"{peer} is the host itself", "another host", help)


def _report_progress(host: str, progress: Progress, text: str) -> None:
    progress(f"{host}: {text}")


def _idle_facts(hosts: Hosts, stack: Stack, name: str) -> Facts | None:
    """Return the facts of the idle GPUs of a host; None for a host without GPUs.

    Raises:
        ChangeRefused: a process computes on a GPU.
    """
    if not nvidia.gpus(stack.fleet.hosts[name].minimum):
        return None
    facts = hosts.gpus(name)
    if refusals := list(refuse_busy(f"{name}/qualify", facts)):
        note = "measurements disturb other work, and other work distorts them"
        raise ChangeRefused(*(replace(each, expected="GPUs without processes", note=note) for each in refusals))
    return facts


def _python_items(
    bench: Bench, path: NetworkPath | None, hosts: Hosts, seconds: float, progress: Progress
) -> Iterator[Item]:
    """Yield the items that are measured with Python alone."""
    yield _try_measure(
        HOST_MEMORY, bench, progress, lambda: memory_item(bench.script(HOST_MEMORY, "memory", [seconds], 60 + seconds))
    )
    if path:
        name = f"network to {path.peer.host}"
        other = Bench(hosts, path.peer.host, f"{path.peer.host}/qualify")
        yield _try_measure(
            name, bench, progress, lambda: network_item(name, path, *_run_stream(bench, other, path, seconds))
        )


def memory_item(report: dict[str, Any]) -> Item:
    """Return the item of host memory from the *report* of the program ``memory``."""
    rate = Figure("copy, all processors", report["bytes_per_second"] / 1e9, "GB/s")
    size, caches = report["buffer_bytes"] / 2**20, report["cache_bytes"] / 2**20
    details = f"{report['processors']} processors, {size:.0f} MiB of buffers, {caches:.0f} MiB of cache"
    return make_item(HOST_MEMORY, [rate], details=details)


def _port(line: str) -> int:
    """Return the port in the first line of a receiver.

    Raises:
        MeasurementFailed: The line has none.
    """
    try:
        port = parse_object(line)["port"]
    except (InvalidData, KeyError):
        port = None
    if type(port) is not int or not 0 < port < 1 << 16:
        raise MeasurementFailed("the receiver reported no port")
    return port


def _run_stream(own: Bench, peer: Bench, path: NetworkPath, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the reports of the sender and the receiver of a TCP stream along *path*."""
    lines: SimpleQueue[str | None] = SimpleQueue()

    def receive() -> dict[str, Any]:
        try:
            arguments = ["receive", path.peer.address, path.own.address, STREAMS]
            return peer.script(f"receive from {own.host}", "stream", arguments, 60 + seconds, lines.put)
        finally:
            lines.put(None)

    with ThreadPoolExecutor(1) as pool:
        receiver = pool.submit(receive)
        first = lines.get()
        if first is None:
            receiver.result()
            raise MeasurementFailed("the receiver reported no port")
        arguments = ["send", path.own.address, path.peer.address, _port(first), STREAMS, seconds]
        try:
            sent_report = own.script(f"send to {peer.host}", "stream", arguments, 60 + seconds)
        except BaseException:
            peer.stop()
            raise
        return sent_report, receiver.result()


def _gpu_items(bench: Bench, stack: Stack, before: Facts | None, progress: Progress) -> Iterator[Item]:
    declared = stack.fleet.hosts[bench.host]
    names = gpus.item_names(declared)
    if not names:
        return
    if "hardware" in stack.not_rehearsable(bench.host):
        yield from (Item(name, "not rehearsable", details="its GPUs are stand-ins") for name in names)
        return
    if before is None:
        yield from (Item(name, "not possible", details=gpus.reason_not_measured(declared)) for name in names)
        return
    first, *remaining = names
    yield _try_measure(first, bench, progress, partial(gpus.presence_item, declared, before))
    try:
        measured_gpus = _measurable_gpus(bench, stack, before)
    except UnknownFact as reason:
        yield from (Item(name, "not possible", details=str(reason)) for name in remaining)
        return
    if "rdma" in measured_gpus.tools and gpus.NETWORK not in remaining and gpus.ALL_REDUCE in remaining:
        remaining.append(gpus.NETWORK)
    for name in remaining:
        yield _try_measure(name, bench, progress, partial(measured_gpus.measure, name))


def _measurable_gpus(bench: Bench, stack: Stack, before: Facts) -> Gpus:
    """Return the GPUs with the tools on the host that measure them.

    Raises:
        UnknownFact: the GPUs cannot be measured; says why.
    """
    if not before.gpus:
        raise UnknownFact("the driver sees no GPU")
    if divided_gpus := [gpu.index for gpu in before.gpus if gpu.mig]:
        raise UnknownFact(f"GPU {divided_gpus[0]} is divided into MIG instances; measurements need whole GPUs")
    result = bench.hosts.connection(bench.host).run(tool.find_command(before.gpu_driver.version))
    return Gpus(bench, stack.fleet.hosts[bench.host], before, tool.parse_paths(result.stdout.decode(errors="replace")))


def _try_measure(name: str, bench: Bench, progress: Progress, measure: Callable[[], Item]) -> Item:
    progress(f"{bench.host}: {name}")
    try:
        return measure()
    except UnknownFact as reason:
        return Item(name, "not possible", details=str(reason))
    except MeasurementFailed as reason:
        return Item(name, "failed", details=str(reason))

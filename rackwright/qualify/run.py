"""Looks at one host item by item, under its lock, while nobody computes there."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Any

from rackwright.errors import DeclarationError, DeclarationErrors, Refused
from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.hosts.pool import Hosts
from rackwright.kinds.role.plan import busy
from rackwright.progress import Progress
from rackwright.qualify import gpus, tool
from rackwright.qualify.bench import Bench
from rackwright.qualify.gpus import Gpus
from rackwright.qualify.item import Figure, Item, Report, Unusable, judged
from rackwright.qualify.network_path import Way, between
from rackwright.qualify.network_path import item as way_item
from rackwright.schema import nvidia
from rackwright.stack import Stack

SECONDS = 5.0
"""How long what we measure ourselves is measured."""
STREAMS = 4
"""TCP connections at once between two hosts: one alone is bound to one processor."""
HOST_MEMORY = "host memory"


def qualify(
    hosts: Hosts, stack: Stack, host: str, peer: str | None, progress: Progress, seconds: float = SECONDS
) -> Report:
    """Measure what *host* has to show, and between it and *peer*.

    Raises:
        DeclarationErrors: there is no such host.
        DeclarationError: the two share no network.
        Refused: somebody computes on a GPU of one of them.
        HostUnreachable: one is not reached; what was under way there is ended by the host.
        HostBusy: somebody else changes one of them.
    """
    declared = stack.fleet.hosts
    if wrong := list(_wrong(stack, host, peer)):
        raise DeclarationErrors(wrong)
    way = between(declared, host, peer) if peer else None
    with ExitStack() as held:
        for name in sorted({host, *([peer] if peer else [])}):  # in one order, so that two who do this cannot lock up
            held.enter_context(hosts.lock(name, f"{name}/qualify", partial(_say_of, name, progress)))
        before = {name: _idle(hosts, stack, name) for name in filter(None, (host, peer))}
        bench = Bench(hosts, host, f"{host}/qualify")
        items = [*_own(bench, way, hosts, seconds, progress), *_of_gpus(bench, stack, before[host], progress)]
    return Report(stack.name, host, tuple(items))


def _wrong(stack: Stack, host: str, peer: str | None) -> Iterator[DeclarationError]:
    yield from stack.unknown_host_errors(*filter(None, (host, peer)))
    if peer == host:
        want, fix = "a way leads from one host to another", "Name another, or leave it out"
        yield DeclarationError(f"{host}: peer", f"got {peer} itself", want, fix)


def _say_of(host: str, progress: Progress, text: str) -> None:
    progress(f"{host}: {text}")


def _idle(hosts: Hosts, stack: Stack, name: str) -> Facts | None:
    """Return what is seen of the GPUs of a host on which nobody computes; None of one that has none."""
    if not nvidia.gpus(stack.fleet.hosts[name].profile):
        return None
    facts = hosts.gpus(name)
    if refusals := list(busy(f"{name}/qualify", facts)):
        first = refusals[0]
        got = "; ".join([first.got, *(refusal.got.removeprefix("got ") for refusal in refusals[1:])])
        raise Refused(first.where, got, "what is measured is neither right nor harmless beside them", first.fix)
    return facts


def _own(bench: Bench, way: Way | None, hosts: Hosts, seconds: float, progress: Progress) -> Iterator[Item]:
    """Yield what is measured with nothing but Python."""
    yield _tried(
        HOST_MEMORY, bench, progress, lambda: memory_item(bench.script(HOST_MEMORY, "memory", [seconds], 60 + seconds))
    )
    if way:
        name = f"network to {way.peer.host}"
        other = Bench(hosts, way.peer.host, f"{way.peer.host}/qualify")
        yield _tried(name, bench, progress, lambda: way_item(name, way, *_streamed(bench, other, way, seconds)))


def memory_item(told: dict[str, Any]) -> Item:
    """Return the item of what the program ``memory`` told."""
    rate = Figure("copy, all processors", told["bytes_per_second"] / 1e9, "GB/s")
    size, caches = told["buffer_bytes"] / 2**20, told["cache_bytes"] / 2**20
    said = f"{told['processors']} processors, {size:.0f} MiB of buffers, {caches:.0f} MiB of cache"
    return judged(HOST_MEMORY, [rate], said=said)


def _streamed(own: Bench, peer: Bench, way: Way, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the sender and the receiver told."""
    lines: SimpleQueue[str | None] = SimpleQueue()

    def receive() -> dict[str, Any]:
        try:
            arguments = ["receive", way.peer.address, way.own.address, STREAMS]
            return peer.script(f"receive from {own.host}", "stream", arguments, 60 + seconds, lines.put)
        finally:
            lines.put(None)

    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(receive)
        first = lines.get()
        if first is None:
            receiving.result()
            raise Unusable("the receiver told no port")
        arguments = ["send", way.own.address, way.peer.address, json.loads(first)["port"], STREAMS, seconds]
        try:
            sent = own.script(f"send to {peer.host}", "stream", arguments, 60 + seconds)
        except BaseException:
            peer.stop()
            raise
        return sent, receiving.result()


def _of_gpus(bench: Bench, stack: Stack, before: Facts | None, progress: Progress) -> Iterator[Item]:
    declared = stack.fleet.hosts[bench.host]
    wanted = gpus.names(declared)
    if not wanted:
        return
    if "hardware" in stack.not_rehearsable(bench.host):
        yield from (Item(name, "not rehearsable", said="its GPUs are stand-ins") for name in wanted)
        return
    if before is None:
        yield from (Item(name, "not possible", said=gpus.others(declared)) for name in wanted)
        return
    first, *others = wanted
    yield _tried(first, bench, progress, partial(gpus.presence, declared, before))
    try:
        site = _site(bench, stack, before)
    except UnknownFact as reason:
        yield from (Item(name, "not possible", said=str(reason)) for name in others)
        return
    if "rdma" in site.tools and gpus.NETWORK not in others and gpus.ALL_REDUCE in others:
        others.append(gpus.NETWORK)
    for name in others:
        yield _tried(name, bench, progress, partial(site.item, name))


def _site(bench: Bench, stack: Stack, before: Facts) -> Gpus:
    """Return the GPUs with what there is to measure them.

    Raises:
        UnknownFact: they cannot be measured at all; says why.
    """
    if not before.gpus:
        raise UnknownFact("the driver sees no GPU")
    if divided := [gpu.index for gpu in before.gpus if gpu.mig]:
        raise UnknownFact(f"GPU {divided[0]} is divided into MIG instances; what is measured takes whole ones")
    done = bench.hosts.connection(bench.host).run(tool.find(before.gpu_driver.version))
    return Gpus(bench, stack.fleet.hosts[bench.host], before, tool.found(done.stdout.decode(errors="replace")))


def _tried(name: str, bench: Bench, progress: Progress, measure: Callable[[], Item]) -> Item:
    progress(f"{bench.host}: {name}")
    try:
        return measure()
    except UnknownFact as reason:
        return Item(name, "not possible", said=str(reason))
    except Unusable as reason:
        return Item(name, "failed", said=str(reason))

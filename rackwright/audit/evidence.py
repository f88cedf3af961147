"""Collect the facts of an audit from all hosts and endpoints at once, or from earlier snapshots."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import datetime
from pathlib import Path

from rackwright.audit.report import Evidence
from rackwright.core.contract import EndpointSource
from rackwright.endpoints import open_endpoints
from rackwright.endpoints.pool import unreadable
from rackwright.errors import Diagnostic, EndpointUnreachable, HostUnreachable, UserError, quantity
from rackwright.facts import snapshot
from rackwright.facts.facts import Facts
from rackwright.hosts.answer import check_answer
from rackwright.hosts.pins import accepts_without_proof
from rackwright.hosts.pool import Hosts
from rackwright.hosts.reading_threads import reading_threads
from rackwright.progress import Progress
from rackwright.stack import Stack

AT_ONCE = 64


def from_hosts(hosts: Hosts, names: Iterable[str], progress: Progress, fresh: bool = False) -> Evidence:
    """Return the facts of all hosts from parallel probes, and the error of each host that does not answer.

    Args:
        fresh: Require probes that begin after this call.
    """
    names = list(names)
    progress(f"probing {quantity(len(names), 'host')}")
    with reading_threads(AT_ONCE) as pool:
        return dict(zip(names, pool.map(lambda name: _probe(hosts, name, progress, fresh), names), strict=True))


def each_from_hosts(hosts: Hosts, names: Iterable[str], progress: Progress) -> Iterator[tuple[str, Facts | UserError]]:
    """Yield each host with its facts, or with its error, as its probe ends; the facts are not stored.

    At most AT_ONCE hosts are ahead of the reader, so memory does not grow with the fleet. A host that hangs delays
    no other one.
    """
    names = list(names)
    progress(f"probing {quantity(len(names), 'host')}")
    with reading_threads(AT_ONCE) as pool:
        left = iter(names)
        running: dict[Future[Facts | UserError], str] = {}
        while True:
            for name in left:
                running[pool.submit(_probe, hosts, name, progress)] = name
                if len(running) >= AT_ONCE:
                    break
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                name, facts = running.pop(future), future.result()
                if isinstance(facts, Facts):
                    hosts.forget_facts(name)
                yield name, facts


def _probe(hosts: Hosts, name: str, progress: Progress, fresh: bool = False) -> Facts | UserError:
    try:
        return hosts.facts(name, fresh)
    except UserError as error:
        progress(f"{name}: not reached")
        return error
    except Exception as error:  # any: one odd host ends the reading of no other one
        progress(f"{name}: not read")
        return unreadable(HostUnreachable, name, error)


def from_endpoints(stack: Stack, progress: Progress) -> Evidence:
    """Return the facts of all endpoints of *stack*, and the error of each endpoint that does not answer."""
    if not stack.endpoint_sources:
        return {}
    endpoints = open_endpoints(stack)

    def read(source: EndpointSource) -> Facts | UserError:
        try:
            return endpoints.facts(source)
        except UserError as error:
            progress(f"{source}: not reached")
            return error
        except Exception as error:  # any: one odd endpoint ends the reading of no other one
            progress(f"{source}: not read")
            return unreadable(EndpointUnreachable, str(source), error)

    with reading_threads(AT_ONCE) as pool:
        return dict(zip(map(str, stack.endpoint_sources), pool.map(read, stack.endpoint_sources), strict=True))


def from_snapshots(directory: Path, as_of: datetime, names: Iterable[str]) -> Evidence:
    """Return the newest snapshot of each host that is not later than *as_of*, or an error if there is none."""
    return dict(each_from_snapshots(directory, as_of, names))


def with_right_host(
    stack: Stack, snapshots: Iterable[tuple[str, Facts | UserError]], progress: Progress
) -> Iterator[tuple[str, Facts | UserError]]:
    """Yield *snapshots*; in the place of facts that another host has signed, the error that names it."""
    for name, facts in snapshots:
        endpoint = stack.endpoints.get(name)
        if endpoint is not None and isinstance(facts, Facts):
            try:
                check_answer(facts, endpoint, stack.endpoints, is_saved=True)
            except UserError as error:
                yield name, error
                continue
            if not facts.has("proofs") and accepts_without_proof(endpoint):
                progress(f"{name}: its snapshot has no proof of its identity, which {endpoint.known_hosts} accepts")
        yield name, facts


def each_from_snapshots(
    directory: Path, as_of: datetime, names: Iterable[str]
) -> Iterator[tuple[str, Facts | UserError]]:
    """Yield each host with its newest snapshot that is not later than *as_of*, or with an error if there is none."""
    help = "Save one with `rackwright audit --save`"
    for name in names:
        is_endpoint = ":" in name
        noun, error = ("endpoint", EndpointUnreachable) if is_endpoint else ("host", HostUnreachable)
        problem = f"no snapshot of the {noun} in {directory} is old enough"
        facts = snapshot.load_host(directory, name, as_of)
        yield name, facts or error(Diagnostic(name, problem, help=help))

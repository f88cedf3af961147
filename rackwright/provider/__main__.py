"""The process of the Pulumi plugin: prints its port for the engine, serves calls, and ends with the engine."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rackwright import locations
from rackwright.provider.lifetime import note_activity, note_provider
from rackwright.provider.server import LazyProvider, serve
from rackwright.scratch import leave_nothing

if TYPE_CHECKING:
    from rackwright.provider.protocol import Provider
    from rackwright.provider.site import Site

WATCH_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""Seconds for cancelled calls to answer; the engine kills the plugin 5 s after its interrupt."""

ALLOCATIONS = 100_000
"""Allocations between two garbage collections, each of which visits the facts of all hosts."""


def main(engine_address: str) -> None:
    gc.set_threshold(ALLOCATIONS)
    parent = os.getppid()
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    to_engine = _redirect_stdout(sys.stdout.fileno())
    provider = LazyProvider(_load, engine_address)
    server, port = serve(provider)
    note_provider("started")
    os.write(to_engine, f"{port}\n".encode())
    # a killed pulumi leaves its plugins behind, and no process would read their answers
    while os.getppid() == parent and not stop.wait(WATCH_SECONDS):
        pass
    note_provider("ended")
    provider.cancel()
    server.stop(GRACE_SECONDS).wait()
    provider.close()
    leave_nothing()
    os._exit(0)  # a thread that still waits for a host is not waited for


def _load(engine_address: str) -> "Provider":
    from rackwright.kinds.table import KINDS, WORK
    from rackwright.provider.protocol import Provider
    from rackwright.provider.resource import Resources
    from rackwright.provider.site import Sites

    sites = Sites(_open_site)
    return Provider(Resources(KINDS, sites, WORK), sites, engine_address)


def _open_site(stack: str, secrets: Mapping[str, str]) -> "Site":
    from rackwright.endpoints import open_endpoints
    from rackwright.hosts import recent, verdicts
    from rackwright.hosts.ansible import Plays
    from rackwright.hosts.local_repository import bringing
    from rackwright.hosts.pool import Hosts
    from rackwright.hosts.rollout import RolloutGate
    from rackwright.hosts.steps import Play, execute
    from rackwright.kinds.shared.secrets import Redactor
    from rackwright.lock import tree
    from rackwright.log import operation
    from rackwright.log.digests import of_stack
    from rackwright.log.operation import Operation
    from rackwright.log.writer import open_log
    from rackwright.provider import consents
    from rackwright.provider.site import Site
    from rackwright.stack import declare, load_stack
    from rackwright.stack.resource import DeclaredResource

    loaded_stack = (
        load_stack(stack, locations.find_project(Path.cwd()) or Path.cwd())
        .with_secrets(secrets)
        .with_consents(consents.load())
    )
    folder = os.environ.get(recent.VARIABLE)
    hosts = Hosts(
        loaded_stack.endpoints,
        loaded_stack.salt,
        account_of_files=False,
        watch=note_activity,
        recent=recent.RecentFacts(Path(folder)) if folder else None,
    )
    rollout = loaded_stack.fleet.rollout
    rollout_gate = RolloutGate(
        rollout,
        lambda: hosts.is_cancelled,
        limit=rollout.unavailable_of(len(loaded_stack.fleet.hosts)),
        unreachable=hosts.unreachable,
        coming=hosts.looked_at,
    )
    play: Play = Plays(
        locations.repository(), hosts, Redactor(loaded_stack.repository.secrets.values()), coming=rollout_gate.going
    ).play
    if loaded_stack.lock and loaded_stack.brings_packages:
        play = bringing(
            play,
            hosts,
            loaded_stack.local_repository,
            partial(tree.find_missing, loaded_stack.lock, loaded_stack.local_repository),
        )

    @cache
    def resources() -> dict[tuple[str, str], DeclaredResource]:
        return {(each.token, each.name): each for each in declare(loaded_stack)}

    def find_inputs(token: str, id: str) -> dict[str, Any] | None:
        found = resources().get((token, id))
        return found.inputs if found else None

    def find_prerequisites(token: str, id: str) -> Collection[str]:
        found = resources().get((token, id))
        return found.after if found else ()

    sources = {*loaded_stack.fleet.hosts, *map(str, loaded_stack.endpoint_sources)}
    log = open_log(loaded_stack.project, os.environ)
    digests = cache(partial(of_stack, loaded_stack))  # a preview needs none

    def record(
        change: str, host: str, resource: str, redact: Callable[[str], str]
    ) -> AbstractContextManager[Operation]:
        return operation.record(
            log.append,
            change,
            stack=stack,
            hosts=[host],
            resource=resource,
            digests=digests(),
            redact=redact,
            every_attempt=True,
        )

    @cache
    def quarantine() -> verdicts.QuarantineLook | None:
        receiver = verdicts.receiver_of(loaded_stack.fleet)
        return None if receiver is None else verdicts.look(hosts, loaded_stack, receiver)

    execute_steps = partial(execute, play=play)
    return Site(
        loaded_stack.repository,
        hosts,
        execute_steps,
        rollout_gate,
        record,
        find_inputs,
        loaded_stack.maintenance,
        loaded_stack.retired,
        open_endpoints(loaded_stack),
        find_prerequisites,
        lambda source: str(source) in sources,
        quarantine,
    )


def _redirect_stdout(stdout: int) -> int:
    """Return a copy of the descriptor *stdout*, and redirect *stdout* to stderr.

    The engine reads only the first line of the plugin's stdout, the port.
    """
    copy = os.dup(stdout)
    os.dup2(sys.stderr.fileno(), stdout)
    return copy


if __name__ == "__main__":
    main(next((argument for argument in sys.argv[1:] if not argument.startswith("-")), ""))

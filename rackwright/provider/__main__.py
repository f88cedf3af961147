"""The plugin's process: prints its port for the engine that started it, answers, and ends when that engine does."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rackwright.hosts.memory import leave_nothing
from rackwright.kinds import KINDS
from rackwright.kinds.shared.secrets import Redactor
from rackwright.provider import consents
from rackwright.provider.protocol import Provider, serve
from rackwright.provider.resource import Resources
from rackwright.provider.site import Site, Sites

WATCH_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""For calls that are stopped to say so; the engine kills us 5 s after its interrupt."""

ALLOCATIONS = 100_000
"""Between two looks at what is garbage: facts of many hosts come and stay, and each look goes over all of them."""


def main(engine_address: str) -> None:
    gc.set_threshold(ALLOCATIONS)
    parent = os.getppid()
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    to_engine = _only_ours(sys.stdout.fileno())
    sites = Sites(_open_site)
    provider = Provider(Resources(KINDS, sites), sites, engine_address)
    server, port = serve(provider)
    os.write(to_engine, f"{port}\n".encode())
    # a killed pulumi leaves its plugins behind: nobody would ever take their answers
    while os.getppid() == parent and not stop.wait(WATCH_SECONDS):
        pass
    provider.cancel()
    server.stop(GRACE_SECONDS).wait()
    sites.close()
    leave_nothing()
    os._exit(0)  # a thread that still waits for a host is not waited for


def _open_site(stack: str, secrets: Mapping[str, str]) -> Site:
    # here: the engine starts two of us, and one of them only says that it is there
    from rackwright.hosts.ansible import Plays
    from rackwright.hosts.local_repository import bringing
    from rackwright.hosts.pool import Hosts
    from rackwright.hosts.rollout import RolloutGate
    from rackwright.hosts.steps import Play, execute
    from rackwright.lock import tree
    from rackwright.stack import declare, load_stack
    from rackwright.stack.stack import ROOT

    declared = load_stack(stack, _project(Path.cwd())).with_secrets(secrets).with_consents(consents.received())
    hosts = Hosts(declared.endpoints, declared.salt)
    rollout = declared.fleet.rollout
    rollout_gate = RolloutGate(
        rollout,
        lambda: hosts.cancelled,
        limit=rollout.unavailable_of(len(declared.fleet.hosts)),
        unreachable=hosts.unreachable,
        coming=hosts.looked_at,
    )
    play: Play = Plays(ROOT, hosts, Redactor(declared.repository.secrets.values()), coming=rollout_gate.going).play
    if declared.lock and declared.brings_packages:
        play = bringing(
            play, hosts, declared.local_repository, partial(tree.lacking, declared.lock, declared.local_repository)
        )

    def named(token: str, id: str) -> dict[str, Any] | None:
        return next((each.inputs for each in declare(declared) if (each.token, each.name) == (token, id)), None)

    do = partial(execute, play=play)
    return Site(declared.repository, hosts, do, rollout_gate, named, declared.maintenance, declared.retired)


def _project(here: Path) -> Path:
    """Return the directory of Pulumi.yaml: *here*, where the engine starts its plugins, or above."""
    if given := os.environ.get("RACKWRIGHT_PROJECT"):
        return Path(given)
    return next((place for place in (here, *here.parents) if (place / "Pulumi.yaml").is_file()), here)


def _only_ours(stdout: int) -> int:
    """Return a descriptor for what *stdout* was, and send everybody else's output to stderr.

    The engine reads the port from the first line of our stdout and nothing after it.
    """
    ours = os.dup(stdout)
    os.dup2(sys.stderr.fileno(), stdout)
    return ours


if __name__ == "__main__":
    main(next((argument for argument in sys.argv[1:] if not argument.startswith("-")), ""))

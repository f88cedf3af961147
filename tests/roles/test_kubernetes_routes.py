"""The program that keeps the routes to pods where no declared network has them, on links of a real kernel."""

import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.facts.facts import Facts
from rackwright.kinds.role.entries.network import RouteEntry
from rackwright.kinds.role.observe import observe_property
from tests.roles.test_kubernetes import NODE, OTHER, written
from tests.support.net_namespaces import Namespace, join, namespaces
from tests.support.our_roles import REPOSITORY

ROOT = Path(__file__).parents[2]
THIRD = {"address": "10.0.0.13", "pod_network": "10.244.3.0/24"}
WAYS = {"10.244.2.0/24": "10.0.0.12", "10.244.3.0/24": "10.0.0.13", "10.96.0.0/12": "10.0.0.12"}
PROBE = """
import json
from rackwright.facts.probe import network
print(json.dumps({"routes": network.routes(""), "dead_routes": network.dead_routes("")}))
"""


def program(directory: Path, *nodes: dict[str, str]) -> Path:
    files = written("kubernetes_node", **NODE, nodes=[*nodes], service_network="10.96.0.0/12")
    path = directory / "kubernetes-routes"
    path.write_text(files["/usr/local/lib/rackwright/kubernetes-routes"])
    path.chmod(0o755)
    return path


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Namespace]:
    with namespaces(tmp_path, "host", "switch") as made:
        join(made["switch"], "port", made["host"], "fabric0")
        made["host"].ip("address add 10.0.0.11/24 dev fabric0")
        yield made["host"]


@pytest.fixture
def kept(host: Namespace, tmp_path: Path) -> Iterator[Namespace]:
    """Return a host on which the program runs."""
    with subprocess.Popen(host.inside(str(program(tmp_path, OTHER, THIRD)))) as running:
        try:
            until(lambda: ways(host) == WAYS)
            yield host
        finally:
            subprocess.run(["pkill", "--parent", str(running.pid)])
            running.kill()


def ways(host: Namespace) -> dict[str, str]:
    shown = json.loads(host.run("ip", "-4", "-json", "route", "show"))
    return {row["dst"]: row["gateway"] for row in shown if "gateway" in row}


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "it does not hold after 20 s"
        time.sleep(0.05)


def observed(host: Namespace) -> dict[str, Any]:
    """Return the routes that the role claims, as the probe and the role observe them on *host*."""
    facts = Facts(json.loads(host.run("env", f"PYTHONPATH={ROOT}", sys.executable, "-c", PROBE)))
    claims = [RouteEntry(route=to, via=via).claim(REPOSITORY) for to, via in WAYS.items()]
    return {
        claim.thing.removeprefix("route:"): {
            name: observe_property(facts, "route", claim.thing.removeprefix("route:"), name, claim)
            for name in claim.want
        }
        for claim in claims
    }


CHANGES = {
    "deleted": ["route delete 10.244.2.0/24"],
    "all deleted": [f"route delete {to}" for to in WAYS],
    "led to another gateway": ["route replace 10.244.2.0/24 via 10.0.0.99"],
    "led nowhere": ["route replace blackhole 10.244.2.0/24"],
    "the link was down": ["link set fabric0 down", "link set fabric0 up"],
    "the link got its address again": ["address flush dev fabric0", "address add 10.0.0.11/24 dev fabric0"],
    "another MTU": ["link set fabric0 down", "link set fabric0 mtu 1400", "link set fabric0 up"],
    "another name": ["link set fabric0 down", "link set fabric0 name other0", "link set other0 up"],
    "flushed": ["route flush proto 219"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_route_comes_back_after_a_change(kept: Namespace, change: str) -> None:
    kept.ip(*CHANGES[change])
    until(lambda: ways(kept) == WAYS)
    assert observed(kept) == {to: {"via": via, "preferred": ()} for to, via in WAYS.items()}


def test_routes_come_back_when_the_signal_does(host: Namespace, tmp_path: Path) -> None:
    once = program(tmp_path, OTHER, THIRD)
    host.run(str(once), "once")
    host.ip("link set fabric0 down")
    assert ways(host) == {}
    host.run(str(once), "once")  # nothing is reached, and it does not fail
    host.ip("link set fabric0 up")
    host.run(str(once), "once")
    assert ways(host) == WAYS


def test_routes_of_a_node_that_left_go_and_those_of_others_stay(host: Namespace, tmp_path: Path) -> None:
    host.run(str(program(tmp_path, OTHER, THIRD)), "once")
    host.ip("route add 192.0.2.0/24 via 10.0.0.1")

    host.run(str(program(tmp_path, OTHER)), "once")

    assert ways(host) == {"10.244.2.0/24": "10.0.0.12", "10.96.0.0/12": "10.0.0.12", "192.0.2.0/24": "10.0.0.1"}


def test_a_program_that_waits_changes_nothing_by_itself(kept: Namespace) -> None:
    """
    Its own changes are events, too: it must not answer itself for ever.
    """
    with subprocess.Popen(kept.inside("ip", "monitor", "route"), stdout=subprocess.PIPE, text=True) as watch:

        def listens() -> bool:
            kept.ip("route replace blackhole 192.0.2.1")
            return bool(select.select([watch.stdout], [], [], 0.1)[0])

        until(listens)
        kept.ip("route delete 10.244.2.0/24")
        until(lambda: ways(kept) == WAYS)
        time.sleep(1)
        watch.kill()
        assert watch.stdout is not None
        lines = [line for line in watch.stdout.read().splitlines() if "10.244." in line]
    assert len(lines) == 2, lines

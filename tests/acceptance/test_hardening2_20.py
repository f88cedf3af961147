"""Second hardening, line 20: routes between pods outlive whatever happens to the link, or are seen and put back."""

import os

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.networkd_host import BY_HAND, BY_ITSELF, BY_UP, WAYS, networkd_host, node_network

CUT_SECONDS = 60
ONESHOT = "10.244.9.0/24"
"""A route as the oneshot unit of earlier versions added it: once, beside systemd-networkd."""


@line("hardening2", 20)
def test_routes_between_pods_outlive_changes_of_the_link_or_are_put_back(log: Log) -> str:
    """A node's network with the real netplan and systemd-networkd, its claims by the probe, and the step of `up`."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    directory = log.empty_directory()
    lost = []
    with networkd_host(directory, node_network()) as host:
        need(host.eventually(lambda: host.routes() == WAYS), f"the host has {host.routes()}")
        need(host.differences() == [], "right after `up` something differs")
        for name, script in BY_ITSELF.items():
            log(name)
            host.run(f"ip route replace {ONESHOT} via 10.145.0.13")
            host.change(script, CUT_SECONDS)
            back = host.eventually(lambda: WAYS.items() <= host.routes().items(), 60)
            need(back, f"{name}: the host has {host.routes()}")
            need(host.differences() == [], f"{name}: the audit says {host.differences()}")
            lost += [name] if ONESHOT not in host.routes() else []
            host.run(f"ip route delete {ONESHOT} || true")
            host.write()
            host.apply()
        for name, script in BY_UP.items():
            log(name)
            host.change(script, CUT_SECONDS)
            need(host.differences() != [], f"{name}: the audit sees nothing")
            host.apply()
            back = host.eventually(lambda: host.routes() == WAYS and host.differences() == [], 60)
            need(back, f"{name}: after `up` the host has {host.routes()}")
        for name, script in BY_HAND.items():
            log(name)
            host.change(script, CUT_SECONDS)
            need(host.differences() != [], f"{name}: the audit sees nothing")
    need(lost != [], "a route that a oneshot unit adds is never lost: the check shows nothing")
    log("a start of the host")
    with networkd_host(directory, node_network(), boot=True) as host:
        need(host.eventually(lambda: host.routes() == WAYS, 60), f"after a start the host has {host.routes()}")
    log.write(f"lost by a oneshot unit: {', '.join(lost)}")
    return (
        f"{len(WAYS)} routes are back by themselves after {len(BY_ITSELF)} changes of the link and a start, where one "
        f"of a oneshot unit is lost {len(lost)} times; {len(BY_UP)} changes of routes are seen and put right, "
        f"{len(BY_HAND)} seen"
    )

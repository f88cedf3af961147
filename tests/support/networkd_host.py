"""A host whose network the real netplan and systemd-networkd set up, in namespaces, and changes of its routes."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from rackwright.core import diff as comparison
from rackwright.core.contract import Command, Difference
from rackwright.facts.facts import Facts
from rackwright.fleet import load_fleet
from rackwright.kinds.network import commands
from rackwright.kinds.network.spec import NETPLAN, NetworkSpec, files
from rackwright.stack import DeclaredResource
from rackwright.stack.resources import declare_unchecked
from tests.support.log import ROOT
from tests.support.net_namespaces import Namespace, join, namespaces
from tests.support.recorded_hosts import HERE, STACK

NETWORKD = "/lib/systemd/systemd-networkd"
CAPABILITIES = "+net_admin,+net_bind_service,+net_broadcast,+net_raw"
START = f"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t sysfs -o ro sysfs /sys  # as in a container: nothing waits for udev
for place in /etc/netplan /etc/systemd/network /etc/systemd/networkd.conf.d; do
  [ ! -d "$place" ] || mount -t tmpfs tmpfs "$place"
done
mkdir -p /run/dbus /run/programs /run/systemd/network /run/systemd/system /run/systemd/netif/links \
  /run/systemd/netif/leases /run/systemd/netif/lldp
chown -R systemd-network: /run/systemd/netif
printf '#!/bin/sh\\nexit 0\\n' > /run/programs/systemctl  # no systemd runs here; networkd does
chmod 0755 /run/programs/systemctl
ip link set lo up
dbus-daemon --system --nofork --nopidfile &
while [ ! -e /run/dbus/system_bus_socket ]; do sleep 0.02; done
if [ -n "$FILE" ]; then
  printf '%s' "$FILE" > /etc/netplan/60-rackwright.yaml
  netplan generate
fi
echo started
setpriv --reuid systemd-network --regid systemd-network --clear-groups --inh-caps {CAPABILITIES} \
  --ambient-caps {CAPABILITIES} {NETWORKD} &
while ! networkctl list > /dev/null 2>&1; do sleep 0.02; done
echo answers
wait
"""
PROBE = """
import json
from rackwright.facts.probe import network
names = ("routes", "dead_routes", "chosen_routes")
print(json.dumps({name: getattr(network, name)("") for name in names}))
"""
SIGNAL = "the switch turns its port off and on"
WAYS = {"10.244.1.0/24": "10.145.0.11", "10.244.3.0/24": "10.145.0.13", "10.96.0.0/12": "10.145.0.11"}
"""Routes of the node: gateways by destination."""
NEEDED = ("netplan", "dbus-daemon", "networkctl")


class NetworkdHost:
    """A host with one link, `fabric0`, whose other end is a switch."""

    def __init__(self, process: int, resource: DeclaredResource, switch: Namespace) -> None:
        self._process, self.resource, self._switch = process, resource, switch

    def change(self, script: str, seconds: float) -> None:
        """Make a change of `BY_ITSELF` or another one; a cut lasts *seconds*."""
        if script != SIGNAL:
            self.run(script.replace("SECONDS", str(seconds)))
            return
        self._switch.ip("link set port down")
        time.sleep(seconds)
        self._switch.ip("link set port up")

    def run(self, script: str) -> str:
        """Run *script* with the files and the network of the host, and return its output."""
        argv = ["nsenter", f"--target={self._process}", "--net", "--mount", "--", "sh", "-euc", script]
        environment = {**os.environ, "PATH": f"/run/programs:{os.environ['PATH']}:/usr/sbin:/sbin"}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def routes(self) -> dict[str, str]:
        """Return the gateway of each route with one, by its destination."""
        rows = json.loads(self.run("ip -json -4 route show"))
        return {row["dst"]: row["gateway"] for row in rows if "gateway" in row}

    def differences(self) -> list[Difference]:
        """Return the differences of the routes of the network, between its claims and the probe of the kernel."""
        kind, spec = self.resource.kind, self.resource.spec
        raw = json.loads(self.run(f"PYTHONPATH={ROOT} {sys.executable} -c '{PROBE}'"))
        claims = [claim for claim in kind.claims(spec, STACK.repository) if claim.thing.startswith("route:")]
        return [*comparison.diff(claims, kind.observe(claims, Facts(raw)))]

    def write(self) -> None:
        """Write the file of the network, as `up` does."""
        text = netplan_text(self.resource)
        self.run(f"cat > {NETPLAN} <<'END'\n{text}END\nchmod 0600 {NETPLAN}")

    def apply(self) -> None:
        """Run the step of `up` that sets up the links."""
        step: Command = commands.apply((), (), ("fabric0",), ("fabric0",), (), False)
        argv = ["nsenter", f"--target={self._process}", "--net", "--mount", "--", *step.argv]
        environment = {**os.environ, "PATH": f"/run/programs:{os.environ['PATH']}:/usr/sbin:/sbin"}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr

    def eventually(self, holds: Callable[[], bool], seconds: float = 30) -> bool:
        """Return whether *holds* becomes true in time."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True


def netplan_text(resource: DeclaredResource) -> str:
    """Return the text of netplan's file."""
    assert isinstance(resource.spec, NetworkSpec)
    return files(resource.spec, STACK.repository)[NETPLAN].text


def node_network() -> DeclaredResource:
    """Return the network of a node of the recorded cluster."""
    stack = replace(STACK, fleet=load_fleet(HERE / "clustered.yaml", STACK.repository.roles))
    [network] = [each for each in declare_unchecked(stack) if each.name == "aspen/network"]
    return network


@contextmanager
def networkd_host(directory: Path, resource: DeclaredResource, boot: bool = False) -> Iterator[NetworkdHost]:
    """Yield a host with the network *resource*, made by `up`; with *boot*, by a start of the host."""
    missing = [name for name in NEEDED if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing or not Path(NETWORKD).exists():
        pytest.skip(f"these programs are not installed: {', '.join(missing) or NETWORKD}")
    with namespaces(directory, "switch") as made:
        argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", START]
        environment = {**os.environ, "FILE": netplan_text(resource) if boot else ""}
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        ) as holder:
            try:
                assert holder.stdout is not None
                read = [holder.stdout.readline().strip() for _ in range(2)]
                assert read == ["started", "answers"], f"systemd-networkd does not start: {read}"
                namespace = Namespace("host", holder.pid, directory)
                join(made["switch"], "port", namespace, "fabric0")
                host = NetworkdHost(holder.pid, resource, made["switch"])
                if not boot:
                    host.write()
                    host.apply()
                yield host
            finally:
                holder.kill()


BY_ITSELF: Mapping[str, str] = {
    "networkctl reconfigure": "networkctl reconfigure fabric0",
    "netplan generate and networkctl reload": "netplan generate; networkctl reload; networkctl reconfigure fabric0",
    "another MTU by netplan": "sed -i 's/mtu: 1500/mtu: 1400/' /etc/netplan/*; netplan generate; networkctl reload",
    "another MTU by hand": "ip link set fabric0 mtu 1300; networkctl reconfigure fabric0",
    "a cut": "ip link set fabric0 down; sleep SECONDS; ip link set fabric0 up",
    "a lost signal": SIGNAL,
}
"""Changes of the link after which the routes are there again by themselves; SECONDS is the length of a cut."""
BY_UP: Mapping[str, str] = {
    "deleted by hand": "ip route delete 10.244.3.0/24",
    "all deleted by hand": "ip route flush proto static",
    "led to another gateway": "ip route replace 10.244.3.0/24 via 10.145.0.99",
    "led nowhere": "ip route delete 10.244.3.0/24; ip route add blackhole 10.244.3.0/24",
    "the address deleted and added": "ip address flush dev fabric0; ip address add 10.145.0.12/24 dev fabric0",
}
"""Changes of routes that the audit sees and `up` puts right."""
BY_HAND: Mapping[str, str] = {
    "a second route beside it": "ip route append 10.244.3.0/24 via 10.145.0.99",
}
"""Changes that the audit sees, and a person puts right."""

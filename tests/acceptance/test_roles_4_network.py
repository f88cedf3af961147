"""Line 4, the network: a host takes back a declaration that cuts the controller off."""

import time

from rackwright.errors import UserError
from rackwright.hosts.pool import Hosts
from rackwright.stack import load_stack
from tests.support.acceptance import line
from tests.support.expect import eventually, need
from tests.support.lab import Lab, format_claims
from tests.support.log import Log

HOST, SECONDS = "gpu-01", 120
FLEET = f"""\
fleet: cut
hosts:
  {HOST}:
    address: 192.0.2.1
    identity: {{serial: RW-CUT-01}}
    os: debian-12
    drives:
      - {{serial: RW-CUT-BOOT, boot: true}}
    nics:
      - {{name: fabric0, mac: "52:54:00:04:01:01", mtu: 9000, addresses: [10.30.0.11/24]}}
    network:
      confirm_seconds: {SECONDS}
"""
STEAL = {"to": "10.0.2.2/32", "via": "10.30.0.99"}
"""The controller is what the guest knows as 10.0.2.2, by its management port; nobody is at 10.30.0.99."""
LOOK = "ip -br address; ip route; cat /etc/netplan/60-rackwright.yaml; ls /etc/systemd/network"


@line("roles", 4, part="network")
def test_a_host_takes_back_a_network_that_cuts_the_controller_off(log: Log) -> str:
    """The way back to the controller is led over a dead end; nobody does anything, and the host is as it was."""
    with Lab(log.empty_directory() / "project", FLEET, log) as lab:
        lab.start()
        lab.up()
        before = lab.ssh(HOST, LOOK)
        log("declaring a route that steals the way back")
        lab.edit(lambda fleet: fleet["hosts"][HOST]["network"].update(routes=[STEAL]))
        began = time.monotonic()
        done = lab.up(status=None)
        need(done.returncode in (3, 4), f"up ended with {done.returncode}, and had to fail")
        message = " ".join(done.stdout.split())
        need(f"{HOST}/network" in message, "up did not name the network")
        reason = f"within {SECONDS} s the host itself undoes the steps after its timer was set"
        need(reason in message, "up did not say that the host puts it back")
        log("waiting for the host")
        eventually(lambda: _answers(lab), f"{HOST} answers again", 4 * SECONDS)
        seconds = time.monotonic() - began
        eventually(lambda: lab.ssh(HOST, LOOK) == before, f"{HOST} is as it was", 60)
        need("undo" not in lab.ssh(HOST, "ls /etc/systemd/system"), "the timer was left behind")
        log("declaring it without the route")
        lab.edit(lambda fleet: fleet["hosts"][HOST]["network"].pop("routes"))
        interrupted = lab.audit_differences()
        record = {(f"{HOST}/network", "owner:network")}
        need(interrupted == record, f"only the record of the change differs; these do: {format_claims(interrupted)}")
        lab.up()
        need(not lab.differing(), "something differs after the next run")
    return (
        f"cut off with a message, and reachable again {seconds:.0f} s after `up` had begun; the timer had {SECONDS} s"
    )


def _answers(lab: Lab) -> bool:
    stack = load_stack(lab.stack, lab.directory)
    hosts = Hosts(stack.endpoints, stack.salt)
    try:
        hosts.facts(HOST)
    except UserError:
        return False
    finally:
        hosts.close()
    return True

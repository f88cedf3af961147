"""The exposure of every service unit that rackwright writes, as systemd counts it on a host of the stack `lab-full`."""

import os
import re

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import ROOT, Log
from tests.support.unit_files import exposure, limits, services

HOST = "service-01"
FLEET = ROOT / "stacks/rack-full.yaml"
SAMPLE = "hardening"
"""What the names of the samples begin with: no unit of the host is replaced."""


@line("hardening", "units")
def test_no_unit_is_exposed_more_than_its_limit(log: Log) -> str:
    """Units that ran as root without a bound could do anything to a host, and take all of its memory."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    with Lab(log.empty_directory(), FLEET, log, "lab-full", containers=[HOST]) as lab:
        lab.edit(lambda fleet: fleet.update(hosts={HOST: fleet["hosts"][HOST]}))
        lab.start()
        log("making the host")
        lab.up()
        units = {name: f"{SAMPLE}-{re.sub(r'[^a-z-]', '-', name.partition('.')[0])}.service" for name in services()}
        for name, unit in units.items():
            lab.ssh(HOST, f"cat > /etc/systemd/system/{unit} <<'END_OF_UNIT'\n{services()[name]}END_OF_UNIT\n")
        lab.ssh(HOST, "systemctl daemon-reload")
        wrong = lab.ssh(HOST, f"journalctl -b -q -o cat _PID=1 | grep -F /{SAMPLE}- || true")
        need(wrong == "", f"systemd does not understand: {wrong}")
        found = {}
        for name, unit in units.items():
            found[name] = exposure(lab.ssh(HOST, f"systemd-analyze security --no-pager {unit}"))
            memory = lab.ssh(HOST, f"systemctl show --property=MemoryMax --value {unit}")
            need(memory.isdigit(), f"{name} may take all memory: MemoryMax={memory}")
    for name in sorted(found, key=lambda each: -found[each]):
        log(f"{found[name]:4.1f} of {limits()[name]:4.1f}  {name}")
    above = {name: value for name, value in found.items() if value > limits()[name]}
    need(above == {}, f"exposed more than their limits: {above}")
    worst = max(found, key=lambda each: found[each])
    limit = min(limits().values())
    usual = sum(limits()[name] == limit for name in found)
    return f"{len(found)} units, {usual} of them at most {limit}; the most exposed is {worst} with {found[worst]}"

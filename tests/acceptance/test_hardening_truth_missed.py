"""Drop-ins, generators and better routes change a declared unit or route, and are found.

The two other lines of this class are judged by the checks of accounts' keys and of members' superblocks.
"""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.training_lab import IDLE, RUN, program_lab

HOST, UNIT, TO = "oak", f"training-{RUN}.service", "198.51.100.0/24"
RACK = f"""\
fleet: trees
hosts:
  {HOST}:
    profile: virtual
    os: debian-12
    address: 10.42.0.11
    identity: {{serial: TREE-1}}
    network: {{routes: [{{to: {TO}, via: 10.142.0.1, metric: 200}}]}}
    nics: [{{name: fabric0, mac: "52:54:00:00:42:01", addresses: [10.142.0.11/24]}}]
    tiers: {{warm: {{provided: true, mount: /srv/warm}}}}
"""
RELOAD = "systemctl daemon-reload"
DROP_IN = "[Service]\\nEnvironment=LD_PRELOAD=/tmp/x.so\\n"
DEVIATIONS = {
    "a drop-in": (
        f"d=/etc/systemd/system/{UNIT}.d; mkdir -p $d; printf '{DROP_IN}' > $d/x.conf; {RELOAD}",
        f"rm -r /etc/systemd/system/{UNIT}.d; {RELOAD}",
    ),
    "a drop-in for all services": (
        f"d=/run/systemd/system/service.d; mkdir -p $d; printf '{DROP_IN}' > $d/x.conf; {RELOAD}",
        f"rm -r /run/systemd/system/service.d; {RELOAD}",
    ),
    "what systemctl set-property writes": (
        f"systemctl set-property --runtime {UNIT} CPUWeight=5",
        f"rm -r /run/systemd/system.control/{UNIT}.d; {RELOAD}",
    ),
    "a generator's drop-in": (
        "mkdir -p /etc/systemd/system-generators; cat > /etc/systemd/system-generators/rogue <<'END'\n"
        f"#!/bin/sh\nmkdir -p $1/{UNIT}.d; printf '{DROP_IN}' > $1/{UNIT}.d/x.conf\nEND\n"
        f"chmod 0755 /etc/systemd/system-generators/rogue; {RELOAD}",
        f"rm -r /etc/systemd/system-generators; {RELOAD}",
    ),
    "an earlier version in memory": (
        f"f=/etc/systemd/system/{UNIT}; cp -p $f /tmp/kept; echo Nice=5 >> $f; {RELOAD}; cat /tmp/kept > $f; sleep 0.1",
        RELOAD,
    ),
}
"""What is done to the host, and what takes it back."""


ROUTES = {
    "a route with a better metric": f"{TO} via 10.142.0.9 dev fabric0 metric 5",
    "a route of another link": f"{TO} dev lo metric 5",
    "a route that leads nowhere": f"blackhole {TO} metric 5",
}


@line("hardening", "truth", part="missed")
def test_undeclared_unit_overrides_and_routes_are_found(log: Log) -> str:
    with program_lab(log, RACK, HOST, IDLE) as lab:
        lab.up()
        for name, (change, back) in DEVIATIONS.items():
            log(name)
            need(not lab.audit_differences(), f"before {name} something differs")
            lab.ssh(HOST, change)
            found = [claim for _, claim in lab.audit_differences()]
            need(found and {*found} == {f"unit:{UNIT}"}, f"{name}: the audit says {found or 'nothing'}")
            lab.ssh(HOST, back)
        lab.stack = lab.hosts_stack
        for name, way in ROUTES.items():
            log(name)
            need(not lab.audit_differences(), f"before {name} something differs")
            lab.ssh(HOST, f"ip route add {way}")
            found = [claim for _, claim in lab.audit_differences()]
            need({*found} == {f"route:{TO} metric 200"}, f"{name}: the audit says {found or 'nothing'}")
            lab.ssh(HOST, f"ip route del {way}")
        return (
            f"{len(DEVIATIONS)} changes of a unit and {len(ROUTES)} of a route beside what is declared: each was found"
        )

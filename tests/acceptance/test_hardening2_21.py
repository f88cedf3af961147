"""Line 21: a service that is older than a file it reads is a difference, and the same `up` restarts it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.acceptance import line
from tests.support.access_rack import PEOPLE, Rack, access
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

HOST = "alpha"
ROLES = {
    "base": {"security_updates": False, "ntp_servers": ["time-1.example"]},
    "load_balancer": {"services": {"digits": {"port": 8080, "members": ["127.0.0.1:9000", "127.0.0.1:9001"]}}},
    "node_exporter": {},
    "virtual_address": {
        "address": "192.0.2.200",
        "interface": "fabric0",
        "own": "10.32.0.11",
        "members": ["10.32.0.11", "10.32.0.12"],
        "check_url": "http://127.0.0.1:9100/",
    },
}
NGINX, KEEPALIVED = "/etc/rackwright/load_balancer/nginx.conf", "/etc/keepalived/keepalived.conf"
SSHD, EXPORTER = "/etc/ssh/sshd_config.d/10-rackwright.conf", "rackwright-node-exporter.service"
JOURNAL = "/etc/systemd/journald.conf.d/rackwright.conf"
BALANCER = "rackwright-load-balancer.service"
EDIT = "cp -a {0} /root/kept; sed -i '{1}' {0}; {2}; sleep 1; cat /root/kept > {0}"
"""Edit a file, let the service read it, and put the content back."""
UNIT_FILE = f"/etc/systemd/system/{EXPORTER}"
DEVIATIONS = {
    "nginx by systemctl reload": (
        EDIT.format(NGINX, "s/127.0.0.1:9000/127.0.0.1:9009/", f"systemctl reload {BALANCER}"),
        f"read:{BALANCER}:{NGINX}",
    ),
    "nginx by a signal": (
        EDIT.format(NGINX, "s/127.0.0.1:9001/127.0.0.1:9009/", f"systemctl kill -s HUP --kill-whom=main {BALANCER}"),
        f"read:{BALANCER}:{NGINX}",
    ),
    "a worker of nginx that was replaced afterwards": (
        EDIT.format(NGINX, "s/127.0.0.1:9000/127.0.0.1:9009/", f"systemctl reload {BALANCER}")
        + "; sleep 1; kill -9 $(pgrep -f '^nginx: worker process$' | head -n 1); sleep 1",
        f"read:{BALANCER}:{NGINX}",
    ),
    "keepalived": (
        EDIT.format(KEEPALIVED, "s/priority .*/priority 99/", "systemctl reload keepalived"),
        f"read:keepalived.service:{KEEPALIVED}",
    ),
    "the journal": (
        EDIT.format(JOURNAL, "s/SystemMaxUse=.*/SystemMaxUse=1G/", "systemctl restart systemd-journald"),
        f"read:systemd-journald.service:{JOURNAL}",
    ),
    "the unit of the exporter": (
        EDIT.format(UNIT_FILE, "s/127.0.0.1/0.0.0.0/", f"systemctl daemon-reload; systemctl restart {EXPORTER}")
        + "; systemctl daemon-reload",
        f"read:{EXPORTER}:{UNIT_FILE}",
    ),
    "a replaced program": (
        "p=$(readlink -f /proc/$(systemctl show -p MainPID --value keepalived)/exe); cp -a $p $p.new; mv $p.new $p",
        "read:keepalived.service:program",
    ),
}
"""What is done to the host, and the claim that has to differ."""
EFFECTS = {"the unit of the exporter": {"socket:tcp:9100"}}
"""Other claims that differ, since what the service does is claimed as well."""
SILENT = {
    "a restart": f"systemctl restart {BALANCER} keepalived {EXPORTER}",
    "a reload": f"systemctl reload {BALANCER} keepalived",
    "a reload of systemd after a reload of a service": f"systemctl reload {BALANCER} && systemctl daemon-reload",
    "rotated logs": f"systemctl kill -s USR1 --kill-whom=main {BALANCER}; journalctl --rotate",
    "a touched file, and the restart of its service": f"touch {KEEPALIVED} && systemctl restart keepalived",
    "another file beside it": "touch /etc/keepalived/keepalived.conf.sample",
    "a read file": f"cat {NGINX} {KEEPALIVED} > /dev/null",
    "a worker of nginx that was replaced": "kill -9 $(pgrep -f '^nginx: worker process$' | head -n 1); sleep 1",
    "a reload of sshd": "systemctl reload ssh; systemctl daemon-reload",
    "a killed service": f"systemctl kill -s KILL {EXPORTER}; sleep 8; systemctl is-active {EXPORTER}",
    "links that change their counters": "ping -c 1 127.0.0.1 > /dev/null || true",
}
"""Changes of a host that must change no claim."""


@contextmanager
def services_lab(log: Log) -> Iterator[Lab]:
    """Yield the project with one converged host that runs the services."""
    keys = log.empty_directory() / "keys"
    host = {
        "os": "debian-12",
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:26:01", "addresses": ["10.32.0.11/24"]}],
        "roles": {**ROLES, "access": access(keys)},
    }
    fleet = json.dumps({"fleet": "services", "hosts": {HOST: host}})
    with Lab(log.directory / "project", fleet, log, containers=[HOST], mirrors=True) as lab:
        lab.start()
        lab.up(status=None)  # people have no secret yet
        for name in PEOPLE:
            Rack(lab, keys, HOST).enrol(name)
        lab.up()
        need(not lab.audit_differences(), "the converged host is not as declared")
        yield lab


@line("hardening2", 21)
def test_a_service_that_is_older_than_a_file_is_found_and_restarted_by_the_same_up(log: Log) -> str:
    with services_lab(log) as lab:
        for name, change in SILENT.items():
            log(name)
            lab.ssh(HOST, change)
            found = [claim for _, claim in lab.audit_differences()]
            need(not found, f"{name}: the audit finds {found}")
        for name, (change, claim) in DEVIATIONS.items():
            log(name)
            lab.ssh(HOST, change)
            found = [claim for _, claim in lab.audit_differences()]
            others = {each for each in found if each != claim} - EFFECTS.get(name, set())
            need(claim in found and not others, f"{name}: the audit finds {found or 'nothing'}, not {claim} alone")
            lab.up()
            found = [claim for _, claim in lab.audit_differences()]
            need(not found, f"{name}: after up, {found} still differ")
        return f"{len(DEVIATIONS)} services with an earlier version found and restarted, {len(SILENT)} changes silent"

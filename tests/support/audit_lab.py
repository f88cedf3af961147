"""Two hosts of a twin with a network and the roles that converge on containers, for checks of the audit as a whole."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.access_rack import PEOPLE, Rack, access
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

ALPHA, BETA = HOSTS = "alpha", "beta"
KEYS = [{"id": 1, "type": "SHA256", "key": {"secret": "ntp_key"}, "servers": ["time-1.example"]}]
BASE = {
    "security_updates": False,
    "ntp_servers": ["time-1.example"],
    "ntp_keys": KEYS,
    "packages": ["tree"],
    "held": ["iproute2"],
}
SERVICES = {"digits": {"port": 8080, "members": ["10.32.0.11:9000", "10.32.0.12:9000"]}}
ROLES = {
    ALPHA: ("access", "base", "node_exporter", "rdma"),
    BETA: ("base", "container_runtime", "load_balancer", "node_exporter"),
}
"""Roles of each host."""
CONVERGED = "converged"
"""Directory in the project with the facts of the converged hosts."""
ROUTE = {"to": "198.51.100.0/24", "via": "10.32.0.1"}


def fleet(keys: Path) -> str:
    """Return the file of the fleet, with new keys of people in the directory *keys*."""
    roles: dict[str, dict[str, Any]] = {
        "base": BASE,
        "access": access(keys),
        "rdma": {"unverified": "accepted"},
        "node_exporter": {},
        "load_balancer": {"services": SERVICES},
        "container_runtime": {},
    }
    hosts = {
        name: {
            "os": "debian-12",
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"S-{name.upper()}"},
            "network": {"routes": [ROUTE]},
            "nics": [{"name": "fabric0", "mac": f"52:54:00:00:26:0{number}", "addresses": [f"10.32.0.1{number}/24"]}],
            "roles": {role: roles[role] for role in ROLES[name]},
        }
        for number, name in enumerate(HOSTS, start=1)
    }
    return json.dumps({"fleet": "audited", "hosts": hosts})


@contextmanager
def converged_lab(log: Log) -> Iterator[Lab]:
    """Yield the project with its twin on and converged: all people have enrolled, and nothing is left to do."""
    keys = log.empty_directory() / "keys"
    with Lab(log.directory / "project", fleet(keys), log, containers=HOSTS, mirrors=True) as lab:
        lab.start()
        log("up")
        lab.up(status=None)  # people have no secret yet
        for name in PEOPLE:
            Rack(lab, keys, ALPHA).enrol(name)
        lab.up()
        saved = lab.rackwright("audit", lab.stack, "--json", "--save", str(lab.directory / CONVERGED))
        report = json.loads(saved.stdout)
        need(report["exit_status"] == 0, f"the converged lab is not as declared: {findings(report)}")
        yield lab


def findings(report: dict[str, Any]) -> set[str]:
    """Return a line for each difference and undeclared thing: host, role or rule, and path."""
    differences = {
        f"{resource['name']} {item['claim']}.{item['property']}"
        for resource in report["resources"]
        for item in resource["differences"]
    }
    return differences | {f"{item['host']} {item['rule']} {item['thing']}" for item in report["undeclared"]}

"""Hosts of a twin with all roles that converge on containers, for the account of their files."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.support import audit_lab, monitoring_lab
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.mlflow_accounts import account
from tests.support.object_store import certificates
from tests.support.registry import ACCOUNTS

STORE, ADDRESS, WAITS, WATCHES = "cedar", "10.145.0.11", monitoring_lab.WORKER, monitoring_lab.SERVICE
MONITORED = {
    WATCHES: ("alertmanager", "drive_exporter", "metrics_proxy", "prometheus", "service_exporter"),
    WAITS: ("drive_exporter", "metrics_proxy", "service_exporter", "virtual_address"),
}
STORED = {STORE: ("mlflow", "object_store", "registry")}
"""Roles of each host, beside base."""
_HARDWARE, _OTHER_SYSTEM = "its driver needs the hardware", "it is for another system than Debian 12"
NOT_HERE = {
    "ascend": _OTHER_SYSTEM,
    "gaudi": _OTHER_SYSTEM,
    "jetson": _OTHER_SYSTEM,
    "cuda": "its packages come from the vendor alone",
    "dcgm": _HARDWARE,
    "gpu_exporter": _HARDWARE,
    "nvidia_driver": _HARDWARE,
    "rocm": _HARDWARE,
    "device_plugin": "it follows kubernetes_node",
    "cluster_exporter": "it follows kubernetes_control_plane",
    "health_exporter": "not tried on these hosts yet",
    "scheduled_audit": "not tried on these hosts yet",
    "journal_receiver": "not tried on these hosts yet",
    "journal_sender": "not tried on these hosts yet",
    "quarantine_reader": "not tried on these hosts yet",
    "quarantine_receiver": "not tried on these hosts yet",
    "postgresql": "line deploy.postgresql audits a host with it",
    "kubernetes_control_plane": "its packages are built from source",
    "kubernetes_node": "its packages are built from source",
    "workloads": "its environments are 5 GB of packages from another index",
}
"""Roles that are on no host of these labs, with the reason."""
Opening = Callable[[Log], AbstractContextManager[Lab]]


def _host(number: int, **more: Any) -> dict[str, Any]:
    return {
        "os": "debian-12",
        "profile": "virtual",
        "network": {},
        "address": f"10.45.0.1{number}",
        "identity": {"serial": f"ACCOUNT-{number}"},
        "nics": [{"name": "fabric0", "mac": f"52:54:00:00:46:0{number}", "addresses": [f"10.145.0.1{number}/24"]}],
        **more,
    }


def _add_virtual_address(fleet: Any) -> None:
    """Give the worker an address that moves between the two hosts."""
    members = ["10.33.0.1", "10.33.0.2"]
    url = "http://127.0.0.1:9100/"
    role = {"address": "10.33.0.200", "interface": "fabric0", "own": members[1], "members": members, "check_url": url}
    fleet["hosts"][WAITS]["roles"] = {"virtual_address": role}


@contextmanager
def monitored_lab(log: Log) -> Iterator[Lab]:
    """Yield two converged hosts with monitoring, and an address that moves."""
    text = monitoring_lab.fleet()
    with Lab(log.directory / "monitored", text, log, containers=monitoring_lab.HOSTS, mirrors=True) as lab:
        lab.edit(_add_virtual_address)
        for name, value in monitoring_lab.SECRETS.items():
            lab.set_secret(name, value)
        lab.start()
        lab.up()
        yield lab


def stored(pem: dict[str, str]) -> dict[str, Any]:
    """Return the declaration of one host with all that keeps data for others."""
    tls = {"certificate": pem["host.crt"], "authority": pem["authority.crt"]}
    accounts = [{"name": "rackwright", "admin": True, "key": {"secret": "archive_key"}}]
    roles = {
        "base": {"security_updates": False},
        "mlflow": {"admin": account("admin"), "port": 5010},
        "registry": {
            "address": ADDRESS, "data": {"tier": "warm"}, "accounts": ACCOUNTS,
            "key": {"secret": "registry_tls"}, **tls,
        },
        "object_store": {
            "address": ADDRESS, "data": {"tier": "warm"}, "accounts": accounts, "volume_mib": 64,
            "key": {"secret": "store_tls"}, "internal_key": {"secret": "store_internal"}, **tls,
        },
    }  # fmt: skip
    tiers = {"warm": {"provided": True, "mount": "/srv/warm"}}
    return {"fleet": "stored", "mirror": {}, "hosts": {STORE: _host(1, tiers=tiers, roles=roles)}}


@contextmanager
def stored_lab(log: Log) -> Iterator[Lab]:
    """Yield a converged host with an object store, a registry and an MLflow server."""
    pem = certificates(log.directory, [ADDRESS])
    text = json.dumps(stored(pem))
    with Lab(log.directory / "stored", text, log, containers=[STORE]) as lab:
        lab.pulumi("stack", "init", status=0)
        for name in ("registry_tls", "store_tls"):
            lab.set_secret(name, pem["host.key"])
        lab.rackwright("toolchain", "registry", status=0)
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.start()
        lab.up()
        yield lab


LABS: dict[str, tuple[Opening, dict[str, tuple[str, ...]]]] = {
    "people and containers": (audit_lab.converged_lab, audit_lab.ROLES),
    "monitoring": (monitored_lab, MONITORED),
    "stores": (stored_lab, STORED),
}
"""Each lab with the roles of its hosts. The first one empties the directory of the line."""

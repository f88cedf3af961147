"""An object store on hosts of a twin, with two buckets: two containers and a third that uses it, or one machine."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from rackwright.endpoints import s3
from rackwright.stack import load_stack
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.object_store import certificates

GATEWAY, DISKS, USER = HOSTS = ("cedar", "aspen", "hazel")
STACK, STORE, PORT = "cold", "archive", 8333
ADDRESSES = {name: f"10.144.0.1{number}" for number, name in enumerate(HOSTS, start=1)}
BUCKETS = ("models", "backups")
ROLES = {GATEWAY: f"{GATEWAY}/object_store", DISKS: f"{DISKS}/object_store"}


def fleet(pem: dict[str, str]) -> dict[str, Any]:
    """Return the declaration of the hosts, the store and its buckets."""
    store = {
        "data": {"tier": "warm"},
        "copies": 2,
        "volume_mib": 64,
        "accounts": [
            {"name": "rackwright", "admin": True, "key": {"secret": "archive_key"}},
            {"name": "trainer", "key": {"secret": "archive_trainer"}},
        ],
        "certificate": pem["host.crt"],
        "key": {"secret": "store_tls"},
        "authority": pem["authority.crt"],
        "internal_key": {"secret": "store_internal"},
    }
    base = {"base": {"security_updates": False, "packages": ["curl"]}}
    roles = {
        GATEWAY: {**base, "object_store": {**store, "address": ADDRESSES[GATEWAY]}},
        DISKS: {**base, "object_store": {**store, "address": ADDRESSES[DISKS], "gateway": ADDRESSES[GATEWAY]}},
        USER: base,
    }
    return {
        "fleet": STACK,
        "mirror": {},
        "groups": {
            "all": {
                "profile": "virtual",
                "os": "debian-12",
                "network": {},
                "tiers": {"warm": {"provided": True, "mount": "/srv/warm"}},
            }
        },
        "hosts": {
            name: {
                "group": "all",
                "address": f"10.44.0.1{number}",
                "identity": {"serial": f"STORE-{number}"},
                "nics": [
                    {"name": "fabric0", "mac": f"52:54:00:00:44:0{number}", "addresses": [f"{ADDRESSES[name]}/24"]}
                ],
                "roles": roles[name],
            }
            for number, name in enumerate(HOSTS, start=1)
        },
        "object_stores": {
            STORE: {
                "url": f"https://{ADDRESSES[GATEWAY]}:{PORT}",
                "ca": pem["authority.crt"],
                "credentials": {"access_key": "rackwright", "secret_key": {"secret": "archive_key"}},
                "hosts": [GATEWAY, DISKS],
            }
        },
        "buckets": {
            "models": {
                "store": STORE,
                "retention": {"mode": "governance", "days": 30},
                "access": {"trainer": "write"},
            },
            "backups": {"store": STORE, "expiry": {"earlier_days": 30}},
        },
        "placement": {
            "versions": {"tier": "warm", "directory": "models", "hosts": [USER], "to": {"bucket": "backups"}},
        },
    }


def machine(pem: dict[str, str]) -> dict[str, Any]:
    """Return the declaration of a store on one virtual machine, which has a clock of its own, and drives.

    A drive of a twin has room for 6 volumes, and the names of the store and two buckets need 7 each.
    """
    declared = fleet(pem)
    host = declared["hosts"][GATEWAY]
    host["roles"]["object_store"] |= {"copies": 1}
    host["drives"] = [
        {"serial": "STORE-BOOT", "boot": True},
        *({"serial": f"STORE-DRIVE-{number}", "bus": "sas", "size": "8GB", "tier": "warm"} for number in range(5)),
    ]
    declared["groups"]["all"]["tiers"] = {"warm": {"level": "raid0", "filesystem": "xfs", "mount": "/srv/warm"}}
    declared["object_stores"][STORE]["hosts"] = [GATEWAY]
    del declared["placement"]
    return {**declared, "hosts": {GATEWAY: host}}


class StoreLab(Lab):
    """A lab whose fleet has an object store."""

    def client(self) -> Any:
        """Return a client of botocore for the account that manages the buckets, through SSH to the gateway."""
        return s3.connect(load_stack(self.stack, self.directory), STORE).signed


@contextmanager
def store_lab(
    log: Log,
    workloads: bool = False,
    declare: Callable[[dict[str, str]], dict[str, Any]] = fleet,
    containers: Sequence[str] = HOSTS,
) -> Iterator[StoreLab]:
    """Yield a lab with the store made and its buckets declared.

    Args:
        workloads: Whether hosts use this computer's environment of the workloads.
        declare: Returns the fleet with certificates of the store.
        containers: The hosts of it that are containers.
    """
    if containers and os.geteuid() != 0:
        pytest.skip("containers need root")
    directory = log.empty_directory()
    pem = certificates(directory, [ADDRESSES[GATEWAY], ADDRESSES[DISKS]])
    # keys at the beginning of lines: a fleet of servers finds the fleets with hosts by them
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in declare(pem).items())
    with StoreLab(directory / "project", text, log, STACK, containers=containers, workloads=workloads) as lab:
        lab.pulumi("stack", "init", status=0)
        lab.set_secret("store_tls", pem["host.key"])
        lab.start()
        log("fetching the packages of the store")
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        log("making the store")
        lab.up()
        try:
            yield lab
        except BaseException:
            with suppress(Exception):  # the line's own error says more
                log("what the parts of the store have logged last")
                lab.ssh(GATEWAY, "journalctl --unit 'object-store-*' --lines 60 --no-pager", status=None)
            raise

"""One container with the GPUs of its profile, for tests of drivers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log

HOST = "alpha"
ROLE = f"{HOST}/nvidia_driver"
VERSION = "535.261.03"
KERNEL = "6.1.0-50-amd64"


def lab(log: Log, machines: Sequence[str] = (), **variables: Any) -> Lab:
    """Return a lab of one container with the GPUs of its profile, and mirrors.

    Args:
        machines: Names of further hosts, virtual machines without GPUs.
        variables: Variables of the role.
    """
    driver = {"version": VERSION, "flavour": "proprietary", **variables}
    hosts: dict[str, dict[str, Any]] = {
        name: {
            "address": f"192.0.2.{number}",
            "identity": {"serial": f"S-{name.upper()}"},
            "os": "debian-12",
            "drives": [{"serial": f"{name.upper()}-BOOT", "boot": True}],
        }
        for number, name in enumerate(machines, start=2)
    }
    hosts[HOST] = {
        "address": "192.0.2.1",
        "identity": {"serial": "S-ALPHA"},
        "os": "debian-12",
        "profile": "training-a100",
        "roles": {"base": {"security_updates": False}, "nvidia_driver": driver},
    }
    fleet = json.dumps({"fleet": "gpus", "hosts": hosts})
    return Lab(log.empty_directory() / "project", fleet, log, containers=[HOST], mirrors=True)


def up_and_loaded(one: Lab) -> None:
    """Run `up`; if it asks for a restart to load a new driver, restart the host and run it again."""
    done = one.up(status=None)
    if "Driver/library version mismatch" in done.stdout + done.stderr:
        need(done.returncode == 1, f"`up` asks for a restart, and its status is {done.returncode}")
        one.log("the host restarts, and loads what is installed")
        one.down()
        one.start()
        one.up()
    else:
        need(done.returncode == 0, f"up ended with {done.returncode}: {done.stderr[-300:]}")


NEWER = "6.1.0-56-amd64"
"""Kernel whose backports break the open module of the older driver: `pci_resize_resource` has another argument."""
STATE = """
dpkg -l | awk '/nvidia|libcuda|linux-image/ {print $1, $2, $3}'
find /lib/modules -name 'nvidia*.ko' -exec sha256sum {} +
readlink -f /usr/lib/x86_64-linux-gnu/libcuda.so.1
ls /boot /var/lib/dkms /etc/dkms
"""
"""Command that prints the packages and files of a driver on a host."""


DRIVER = Path("/proc/driver/nvidia/version")

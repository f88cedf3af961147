"""Line 1: a GPU host's kernel, headers, module, driver and settings are one set, there by one command and clean."""

import json
from collections.abc import Sequence
from typing import Any

from tests.accept.harness import Log, check, need
from tests.accept.lab import Lab

HOST = "alpha"
ROLE = f"{HOST}/nvidia_driver"
VERSION = "535.261.03"
KERNEL = "6.1.0-50-amd64"


def lab(log: Log, machines: Sequence[str] = (), **variables: Any) -> Lab:
    """Return a lab of one container with the GPUs of its profile, and mirrors.

    Args:
        machines: Virtual machines beside it, without GPUs.
        variables: Of the role.
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
    """Run up; where another driver was installed than the kernel has, restart the host as is asked for, and go on."""
    said = one.up(status=None)
    if "Driver/library version mismatch" in said.stdout + said.stderr:
        need(said.returncode == 1, f"a person is asked for a restart, and the status is {said.returncode}")
        one.log("the host restarts, and loads what is installed")
        one.down()
        one.start()
        one.up()
    else:
        need(said.returncode == 0, f"up ended with {said.returncode}: {said.stderr[-300:]}")


@check("accelerators.1")
def a_gpu_host_converges(log: Log) -> str:
    with lab(log, power_limit_watts=300, mig=["3g.40gb", "3g.40gb"]) as one:
        one.start()
        log("up: kernel, headers, driver, and a module that is built here")
        began = log.seconds
        one.up()
        took = log.seconds - began
        report = one.audit(status=0)
        log("nothing is left to do")
        one.pulumi("preview", "--expect-no-changes", status=0)
        modules = one.ssh(HOST, f"modinfo -F version /lib/modules/{KERNEL}/updates/dkms/nvidia-current.ko")
        need(modules == VERSION, f"the module is {modules}")
        held = set(one.ssh(HOST, "apt-mark showhold").split())
        need({f"linux-image-{KERNEL}", "nvidia-kernel-dkms", "libcuda1"} <= held, f"held are {held}")
        return f"up in {took:.0f} s; {json.dumps(report['summary']) if 'summary' in report else 'clean'}"

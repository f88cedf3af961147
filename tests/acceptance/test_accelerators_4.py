"""Line 4: a driver goes up and back by one edit and a lock each, on a host that reaches no mirror of a distribution."""

import json

from rackwright.toolchain.apt import SUITES, mirrors
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import HOST, up_and_loaded
from tests.support.lab import Lab
from tests.support.log import Log

OLD, NEW = "535.261.03", "535.309.01"
KERNELS = {OLD: "6.1.0-50-amd64", NEW: "6.1.0-56-amd64"}
SUITE = SUITES["debian-12"]
OUTSIDE = f"""
ip route show default
/usr/lib/apt/apt-helper download-file {{}}/dists/{SUITE}/InRelease /tmp/InRelease 2>&1 && echo there
"""
"""What a host says of its way to a mirror of its distribution: that there is none, and why it does not get there."""


def lab(log: Log) -> Lab:
    """Return a lab of one container with GPUs, without a way out, and without mirrors that are lent to it."""
    roles = {"base": {"security_updates": False}, "nvidia_driver": {"version": OLD, "flavour": "proprietary"}}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "profile": "training-a100"}
    fleet = json.dumps({"fleet": "gpus", "mirror": {}, "hosts": {HOST: {**host, "roles": roles}}})
    return Lab(log.empty_directory() / "project", fleet, log, containers=[HOST])


@line("accelerators", 4)
def test_a_driver_goes_up_and_back_without_a_mirror(log: Log) -> str:
    with lab(log) as one:
        one.start()
        log("the host names a mirror of its distribution, and does not get there")
        [line, *_] = mirrors(SUITE)
        one.ssh(HOST, f"echo '{line}' > /etc/apt/sources.list")
        outside = OUTSIDE.format(line.partition("] ")[2].split()[0])
        output = one.ssh(HOST, outside, status=None)
        need("there" not in output.split() and "E:" in output, f"the host gets out: {output}")
        took = [_changed(one, OLD), _changed(one, NEW), _changed(one, OLD)]
        need("there" not in one.ssh(HOST, outside, status=None).split(), "the host gets out by now")
        refused = one.rackwright("lock", one.stack, "--check", status=0).stdout.strip()
        seconds = ", ".join(f"{each:.0f} s" for each in took)
        return f"{OLD}, {NEW} and {OLD} again in {seconds}, with no way out of the host; {refused}"


def _changed(one: Lab, version: str) -> float:
    """Declare *version*, lock it, make it so; return the seconds of the last."""
    one.edit(lambda fleet: fleet["hosts"][HOST]["roles"]["nvidia_driver"].update(version=version))
    one.log(f"locked: {version}")
    one.rackwright("lock", "--fetch", one.stack, status=0)
    began = one.log.seconds
    up_and_loaded(one)
    took = one.log.seconds - began
    need(not one.audit_differences(status=0), f"something differs with {version}")
    module = one.ssh(HOST, f"modinfo -F version /lib/modules/{KERNELS[version]}/updates/dkms/nvidia-current.ko")
    need(module == version, f"the module is {module}")
    return took

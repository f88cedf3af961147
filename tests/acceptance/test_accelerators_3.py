"""Line 3: a driver never changes under a running computation; one that does not build leaves the old one in place."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import HOST, NEWER, STATE, lab, up_and_loaded
from tests.support.lab import Lab
from tests.support.log import Log

NEW = "535.309.01"
MODULE = f"/lib/modules/{NEWER}/updates/dkms/nvidia-current.ko"
UNIT = "/etc/systemd/system/rackwright-cdi.service"
HEADER = "/usr/src/linux-headers-6.1.0-56-common/include/linux/pci.h"
HEADERS = f"""
chmod -x /etc/kernel/header_postinst.d/dkms
apt-get -qq install linux-headers-{NEWER} >/dev/null 2>&1
chmod +x /etc/kernel/header_postinst.d/dkms
"""
"""What the newer driver is built against, without DKMS building the older one against it."""


@line("accelerators", 3)
def test_the_old_driver_stays_until_the_new_one_is_installed(log: Log) -> str:
    with lab(log) as one:
        one.edit(lambda fleet: fleet["hosts"][HOST]["roles"].update(container_runtime={}))
        one.start()
        one.up()
        read_anew(one)
        return changed(one)


def read_anew(one: Lab) -> None:
    """Let a unit be another while somebody computes: mending it has systemd read all units, which takes GPUs away."""
    one.log("a unit is another, and somebody computes")
    one.ssh(HOST, f"echo >> {UNIT}")
    one.rackwright("twin", "fault", one.stack, "gpu-busy", HOST, "1", status=0)
    refused = one.up(status=None).stdout
    need(
        f"{HOST}/container_runtime: process 4242 (" in refused,
        f"the refusal does not name the process: {refused[-300:]}",
    )
    need(one.ssh(HOST, f"tail -n 1 {UNIT}") == "", "the unit is changed under who computes")
    one.rackwright("twin", "fault", one.stack, "gpu-clear", HOST, "1", status=0)
    one.up()
    need(not one.audit_differences(status=0), "something differs after up")


def changed(one: Lab) -> str:
    """Declare a newer driver while somebody computes, then while it does not build, then as it should be."""
    one.ssh(HOST, HEADERS)
    before = one.ssh(HOST, STATE)
    _declare(one, version=NEW, flavour="proprietary")

    one.log("somebody computes")
    one.rackwright("twin", "fault", one.stack, "gpu-busy", HOST, "1", status=0)
    refused = one.up(status=None).stdout
    need(
        "process 4242 (" in refused and "of GPU 1" in refused,
        f"the refusal does not name the process: {refused[-300:]}",
    )
    need(one.ssh(HOST, STATE) == before, "the host is changed under who computes")
    one.rackwright("twin", "fault", one.stack, "gpu-clear", HOST, "1", status=0)

    one.log("one line of what the module is built from is broken")
    one.ssh(HOST, f"sed -i '1i #error no compiler' {HEADER}")
    failed = one.up(status=None).stdout
    need("pci.h:1:2: error: #error no compiler" in failed, f"the compiler's line is not printed: {failed[-500:]}")
    need(one.ssh(HOST, STATE) == before, "the host is not as it was")

    one.log("mended: the same command goes on")
    one.ssh(HOST, f"sed -i 1d {HEADER}")
    up_and_loaded(one)
    need(not one.audit_differences(status=0), "something differs after up")
    need(one.ssh(HOST, f"modinfo -F version {MODULE}") == NEW, "the kernel has another module, or none")
    return (
        f"the old driver stayed while it was used, and while {NEW} did not build; then {NEW} came by the same command"
    )


def _declare(one: Lab, **variables: str) -> None:
    one.edit(lambda fleet: fleet["hosts"][HOST]["roles"]["nvidia_driver"].update(variables))

"""Line 2: the claims of the driver and of containers with GPUs are broken by hand; each is found and mended."""

import re

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import HOST, KERNEL, NEWER, ROLE, STATE, VERSION, lab
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log

MODULES = f"/lib/modules/{KERNEL}/updates/dkms"
SET = "python3 - <<'END'\nimport ctypes\nlibrary = ctypes.CDLL('libnvidia-ml.so.1')\nlibrary.nvmlInit_v2()\n{}\nEND"
GPU = "gpu = ctypes.c_void_p()\nlibrary.nvmlDeviceGetHandleByIndex_v2(1, ctypes.byref(gpu))\n"
RUNTIME = f"{HOST}/container_runtime"
CDI = "cdi:nvidia.com/gpu"
BROKEN = {
    "package:libcuda1": "apt-mark unhold libcuda1",
    "package:nvidia-smi": "dpkg --remove --force-depends nvidia-smi",
    "file:/etc/apt/preferences.d/60-rackwright-nvidia-driver": "rm /etc/apt/preferences.d/60-rackwright-nvidia-driver",
    "file:/etc/apt/apt.conf.d/53rackwright-nvidia-driver": "echo > /etc/apt/apt.conf.d/53rackwright-nvidia-driver",
    # after the packages, whose libraries let the host itself tell it anew
    CDI: "rm /etc/cdi/nvidia.json",
    # of another version, where the kernel looks first
    "built_module:nvidia": f"sed s/{VERSION}/535.999.99/g {MODULES}/nvidia-current-open.ko > {MODULES}/nvidia.ko",
    "file:/etc/dkms/no-autoinstall": "touch /etc/dkms/no-autoinstall",
    "library:libcuda.so.1": "touch /usr/local/lib/libcuda.so.999.9; ln -s libcuda.so.999.9 /usr/local/lib/libcuda.so.1",
    "file:/etc/modprobe.d/rackwright-nvidia-driver.conf": "rm /etc/modprobe.d/rackwright-nvidia-driver.conf",
    "unit:nvidia-persistenced.service": "systemctl disable nvidia-persistenced.service",
    "file:/usr/local/sbin/rackwright-gpus": "chmod 0644 /usr/local/sbin/rackwright-gpus",
    "file:/etc/systemd/system/rackwright-gpus.service": "echo >> /etc/systemd/system/rackwright-gpus.service",
    "unit:rackwright-gpus.service": "systemctl disable rackwright-gpus.service",
    "gpu:persistence": SET.format(f"{GPU}library.nvmlDeviceSetPersistenceMode(gpu, 0)"),
    "gpu:power_limit_watts": SET.format(f"{GPU}library.nvmlDeviceSetPowerManagementLimit(gpu, 200000)"),
    "gpu:mig": SET.format(f"{GPU}library.nvmlDeviceSetMigMode(gpu, 1, ctypes.byref(ctypes.c_uint()))"),
}
"""By claim of the roles what breaks it."""


@line("accelerators", 2)
def test_each_broken_claim_about_a_driver_is_found_and_mended(log: Log) -> str:
    with lab(log, flavour="open", power_limit_watts=300, mig=[]) as one:
        one.edit(lambda fleet: fleet["hosts"][HOST]["roles"].update(container_runtime={}))
        one.start()
        one.up()
        return broken(one)


def broken(one: Lab) -> str:
    """Break one after the other: each is found beside those before it, and nothing else. Return how it was mended."""
    need(not one.audit_differences(status=0), "something differs right after up")
    wanted: set[Claimed] = set()
    for claim, script in BROKEN.items():
        one.log(f"broken: {claim}")
        one.ssh(HOST, script)
        wanted.add((RUNTIME if claim == CDI else ROLE, claim))
        found = one.audit_differences()
        need(found == wanted, f"missed {format_claims(wanted - found)}; found besides {format_claims(found - wanted)}")
    one.log("all is mended at once")
    one.up()
    need(not one.audit_differences(status=0), "something differs after up")
    one.pulumi("preview", "--expect-no-changes", status=0)

    one.log("a newer kernel, which has no module and for which this driver does not build")
    one.ssh(HOST, f"apt-get -qq install linux-image-{NEWER} >/dev/null 2>&1")
    need(
        one.audit_differences() == {(ROLE, "built_module:nvidia")},
        f"the audit says {format_claims(one.audit_differences())}",
    )
    before = one.ssh(HOST, STATE)
    output = one.up(status=4).stdout
    line = re.search(rf"{VERSION} does not build for {NEWER}: (\S+:\d+:\d+: error: .*?) \(all of it", output)
    need(line, f"the compiler's line is not printed: {output[-300:]}")
    need(one.ssh(HOST, STATE) == before, "the host is not as it was")
    return (
        f"{len(BROKEN)} broken promises found by their paths and mended; a newer kernel found, and why it has no module"
    )

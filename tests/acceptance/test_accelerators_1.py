"""Line 1: a GPU host's kernel, headers, module, driver and settings are one set, there by one command and clean."""

import json

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.gpu_lab import HOST, KERNEL, VERSION, lab
from tests.support.log import Log


@line("accelerators", 1)
def test_a_gpu_host_converges_with_one_up(log: Log) -> str:
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

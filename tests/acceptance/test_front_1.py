"""Line 1: a wheel on a plain machine without the checkout, a project of one's own, and a rack that is mended."""

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log
from tests.support.plain_machine import CHECKOUT, INSTALL, RACKWRIGHT, PlainMachine, plain_machine

PROVISION = (
    f"{RACKWRIGHT} toolchain system",
    f"{RACKWRIGHT} twin start lab",
    f"{RACKWRIGHT} up --yes lab",
    f"{RACKWRIGHT} audit lab",
)
"""Commands in the project, which end with 0."""
UNMOUNT = f"{RACKWRIGHT} twin ssh lab gpu-01 sudo umount /srv/hot"
MINUTES = 25


@line("front", 1)
def test_a_wheel_leads_to_a_mended_rack_without_a_checkout(log: Log) -> str:
    need(log.run(["make", "wheel"]).returncode == 0, "make wheel failed")
    with plain_machine(log) as machine:
        _run(machine, log, f"rm -rf {CHECKOUT}", "/root")
        began = log.seconds
        for command in (*INSTALL, f"{RACKWRIGHT} init demo"):
            _run(machine, log, command, "/root")
        for command in PROVISION:
            _run(machine, log, command, "/root/demo")
        minutes = (log.seconds - began) / 60
        _run(machine, log, UNMOUNT, "/root/demo")
        _run(machine, log, PROVISION[-1], "/root/demo", status=1)
        for command in PROVISION[2:]:
            _run(machine, log, command, "/root/demo")
        _run(machine, log, 'eval "$(/root/tool/bin/rackwright env)" && pulumi preview --stack lab', "/root/demo")
        outside = machine.run("find / -xdev -newer /root/demo/Pulumi.yaml -path '/root/*' -type f", "/").stdout.split()
        key = "/root/.config/rackwright/log_ed25519"  # of the operations log, which is outside of any repository
        allowed = ("/root/demo/", "/root/.cache/", "/root/tool/", key)
        strange = [path for path in outside if not path.startswith(allowed)]
        need(not strange, f"files were written outside the project, the cache and the key: {', '.join(strange[:5])}")
    count = len(INSTALL) + 1 + len(PROVISION)
    need(minutes <= MINUTES, f"{count} commands took {minutes:.1f} min, at most {MINUTES}")
    return f"{count} commands and {minutes:.1f} min to an audited rack (at most {MINUTES}); a lost mount was mended"


def _run(machine: PlainMachine, log: Log, command: str, directory: str, status: int = 0) -> None:
    log(command)
    done = machine.run(command, directory)
    last = (done.stderr or done.stdout)[-300:]
    need(done.returncode == status, f"`{command}` ended with {done.returncode}, wanted {status}: {last}")

"""Line 4: the steps of the CI files of `rackwright init`, run on a plain machine, install hashed packages alone."""

import re
import shlex

import pytest
import yaml

from tests.support.acceptance import line
from tests.support.ci_steps import CODE_HOST, KEY, PATHS, commands, prepare, run
from tests.support.expect import need
from tests.support.log import Log
from tests.support.plain_machine import CHECKOUT, INSTALL, RACKWRIGHT, PlainMachine, plain_machine

PROJECT, JOB = "/root/demo", "/root/job"
ORDER = {"github": ("check", "up", "audit", "preview"), "gitlab": ("check", "up", "audit", "preview")}
HOSTILE = (
    "attrs==25.3.0",
    "--extra-index-url https://packages.example/simple",
    "six==1.17.0 --hash=sha256:" + "0" * 64,
)
"""Lines of a requirements.txt that no installation may accept."""


@line("hardening2", 4)
def test_the_steps_of_both_ci_files_run_in_order_and_install_hashed_packages(log: Log) -> str:
    need(log.run(["make", "wheel"]).returncode == 0, "make wheel failed")
    steps = 0
    with plain_machine(log) as machine:
        run(machine, log, f"rm -rf {CHECKOUT}", "/root")
        for command in (*INSTALL, f"{RACKWRIGHT} init demo --packages /source/dist"):
            run(machine, log, command, "/root")
        run(machine, log, f"{RACKWRIGHT} toolchain system && {RACKWRIGHT} twin start lab", PROJECT)
        run(machine, log, f"{RACKWRIGHT} digests lab >stacks/lab.digests.json", PROJECT)
        prepare(machine, log, PROJECT)
        run(machine, log, f"ssh-keygen -q -t ed25519 -N '' -f {KEY}", "/root")
        for service, order in ORDER.items():
            text = machine.run(f"cat {PATHS[service]}", PROJECT).stdout
            # the checkout has the state and the twin of the project
            run(machine, log, f"rm -rf {JOB}; git clone --quiet {PROJECT} {JOB}", "/root")
            run(machine, log, f"ln -s {PROJECT}/.rackwright {JOB}/.rackwright", "/root")
            for name in order:
                for command in commands(service, yaml.safe_load(text), name, PROJECT):
                    run(machine, log, command, JOB)
                    steps += 1
            calls = machine.run(f"cat {CODE_HOST}/calls", "/root").stdout
            need("comment.md" in calls, f"{service}: no preview reached the code host: {calls[-200:]}")
        refused = _count_refused(machine, log)
    return (
        f"{steps} steps of 2 files ended well; {refused} requirements without a hash, or with a wrong one, were refused"
    )


def _count_refused(machine: PlainMachine, log: Log) -> int:
    """Require that the command of the files installs nothing of HOSTILE, and return how many were tried."""
    text = machine.run(f"cat {PATHS['github']}", PROJECT).stdout
    found = re.search(r'run: "(python3\.11 -m venv .*)"', text)
    if not found:
        pytest.fail("the file has no installation")
    for hostile in HOSTILE:
        run(machine, log, f"rm -rf {JOB}; git clone --quiet {PROJECT} {JOB}", "/root")
        run(machine, log, f"printf '%s\\n' {shlex.quote(hostile)} >>requirements.txt", JOB)
        done = machine.run(found[1], JOB)
        need(done.returncode != 0, f"{hostile!r} was installed")
    return len(HOSTILE)

"""Line 7: one run of Ansible for a role, however many hosts; a preview of many hosts that finds nothing to do."""

import json
import os
import sys

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log


@line("roles", 7)
def test_a_role_takes_one_run_of_ansible_for_all_hosts(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    log("1, 20 and 40 containers get their roles")
    done = log.run([sys.executable, "-m", "benchmarks", "roles"])
    need(done.returncode == 0, f"the bench ended with {done.returncode}: {done.stderr[-500:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    for each in report["applied"]:
        need(each["runs"] == each["roles"], f"{each['runs']} runs of Ansible for {each['roles']} roles: {each}")
    cost = ", ".join(f"{each['ansible_ms']:.0f} ms of {each['hosts']}" for each in report["applied"])
    parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in report["preview"].items())
    roles = report["applied"][0]["roles"]
    return f"one run for a role; a task of a host takes {cost} hosts; preview of 40 hosts × {roles} roles, s: {parts}"

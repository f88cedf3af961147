"""The account of the MLflow server puts a link in the place of its directory, and gets nothing by it."""

import json
import os

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.mlflow_accounts import account

HOST = "alpha"
ARTIFACTS = "/var/lib/mlflow/artifacts"
VICTIM = "/etc/ssh"


@line("hardening", 6)
def test_the_mlflow_account_gets_no_directory_of_root(log: Log) -> str:
    """Role mlflow made its directory as root, and Ansible follows links."""
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    roles = {"base": {"security_updates": False}, "mlflow": {"admin": account("admin")}}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": roles}
    fleet = json.dumps({"fleet": "tracked", "mirror": {}, "hosts": {HOST: host}})
    with Lab(log.empty_directory() / "project", fleet, log, containers=[HOST]) as lab:
        lab.start()
        log("fetching what the role installs")
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        log("making the host")
        lab.up()
        need(_owner(lab, ARTIFACTS) == "mlflow:mlflow 750", f"the artifacts are {_owner(lab, ARTIFACTS)}'s")
        before = _owner(lab, VICTIM)
        log("a link in the place of the directory, and a password that was deleted")
        link = f"rm -rf {ARTIFACTS}; ln -s {VICTIM} {ARTIFACTS}"
        lab.ssh(HOST, f"systemctl stop mlflow; runuser -u mlflow -- sh -c '{link}'; passwd -d mlflow")
        lab.up()
        after = _owner(lab, VICTIM)
        need(after == before, f"{VICTIM} is {after}, and was {before}")
        need(lab.ssh(HOST, "getent shadow mlflow | cut -d: -f2") == "*", "the account has no locked password")
        lab.ssh(HOST, f"rm {ARTIFACTS}; passwd -d mlflow")
        lab.up()
        need(_owner(lab, ARTIFACTS) == "mlflow:mlflow 750", "the directory was not made again")
        need(lab.audit_differences(status=0) == set(), "something differs")
    return f"the role was played over a link to {VICTIM}, which stays {before}; a deleted password is locked again"


def _owner(lab: Lab, path: str) -> str:
    return lab.ssh(HOST, f"stat -c '%U:%G %a' {path}")

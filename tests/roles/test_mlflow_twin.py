"""The role mlflow on a host of a twin that has no way out: accounts, TLS, restarts, and promises that are broken."""

import json
import os
import shlex
from collections.abc import Iterator

import pytest

from rackwright.schema.secret import derive_value
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log
from tests.support.mlflow_accounts import account, ask

pytestmark = [
    pytest.mark.twin,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root, and this is somebody else"),
]
HOST = "alpha"
ROLE = f"{HOST}/mlflow"
FUNCTIONS = {"tina": "trainer", "rita": "reviewer", "axel": "auditor", "gate": "serving"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host that gets all it needs by the connection that changes it."""
    directory = tmp_path_factory.mktemp("mlflow")
    users = [{**account(name), "function": function} for name, function in FUNCTIONS.items()]
    roles = {"base": {"security_updates": False}, "mlflow": {"admin": account("admin"), "users": users}}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": roles}
    fleet = json.dumps({"fleet": "tracked", "mirror": {}, "hosts": {HOST: host}})
    with Lab(directory / "project", fleet, Log("mlflow"), containers=[HOST]) as lab:
        lab.start()
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        lab.up()
        yield lab


def test_it_answers_over_tls_on_loopback_alone(lab: Lab) -> None:
    """
    Nothing is left to do; without an account, and under another name, nobody is answered.
    """
    assert lab.audit_differences(status=0) == set()
    assert lab.ssh(HOST, "ss -Hltn 'sport = :5000' | tr -s ' ' | cut -d' ' -f4") == "127.0.0.1:5000"
    assert ask(lab, HOST, "nobody", "GET", "experiments/get?experiment_id=0")[0] == 401
    environment = lab.ssh(HOST, "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID mlflow.service)/environ").split()
    assert {"MLFLOW_DISABLE_TELEMETRY=true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false"} <= set(environment)
    assert lab.ssh(HOST, "ps -o user= -C python | sort -u") == "mlflow"


def test_an_account_may_do_what_its_function_says(lab: Lab) -> None:
    made = {name: ask(lab, HOST, name, "POST", "experiments/create", {"name": f"of-{name}"})[0] for name in FUNCTIONS}
    assert made == {"tina": 200, "rita": 403, "axel": 403, "gate": 403}

    run = ask(lab, HOST, "tina", "POST", "runs/create", {"experiment_id": "0"})[1]["run"]["info"]["run_id"]
    assert ask(lab, HOST, "tina", "POST", "registered-models/create", {"name": "digits"})[0] == 200
    version = {"name": "digits", "source": f"runs:/{run}/model", "run_id": run}
    assert ask(lab, HOST, "tina", "POST", "model-versions/create", version)[0] == 200

    alias = {"name": "digits", "alias": "champion", "version": "1"}
    named = {name: ask(lab, HOST, name, "POST", "registered-models/alias", alias)[0] for name in FUNCTIONS}
    assert named == {"tina": 403, "rita": 200, "axel": 403, "gate": 403}
    tag = {"name": "digits", "version": "1", "key": "rackwright.fleet", "value": "another"}
    assert {ask(lab, HOST, name, "POST", "model-versions/set-tag", tag)[0] for name in FUNCTIONS} == {403}

    found = {name: ask(lab, HOST, name, "GET", "model-versions/get?name=digits&version=1")[0] for name in FUNCTIONS}
    assert set(found.values()) == {200}
    assert ask(lab, HOST, "gate", "GET", f"runs/get?run_id={run}")[0] == 403
    assert ask(lab, HOST, "axel", "GET", f"runs/get?run_id={run}")[0] == 200


def test_what_was_told_is_there_after_a_restart(lab: Lab) -> None:
    lab.ssh(HOST, "systemctl restart mlflow.service")

    assert ask(lab, HOST, "rita", "GET", "registered-models/alias?name=digits&alias=champion")[1]["model_version"][
        "version"
    ]


def test_passwords_are_on_the_host_for_root_alone(lab: Lab) -> None:
    """
    Nor do they stand in what the lab was told, or in the state.
    """
    secret = derive_value("mlflow_tina")
    found = lab.ssh(
        HOST, f"grep -rlF {secret} /etc /opt/rackwright/mlflow/*.* /var/lib/mlflow /var/log /run/log", status=None
    )

    assert found.split() == ["/etc/rackwright/mlflow/accounts.json"]
    assert lab.ssh(HOST, "stat -c '%a %U' /etc/rackwright/mlflow/accounts.json") == "600 root"
    state = [path.read_text() for path in (lab.directory / ".rackwright/state").rglob("*.json")]
    assert state and not [text for text in state if secret in text]


PROMOTE = """import sqlite3
with sqlite3.connect("/var/lib/mlflow/accounts.db") as database:
    database.execute("UPDATE users SET is_admin = 1 WHERE username = 'axel'")
"""
BROKEN = {
    "package:python3-venv": "dpkg --purge --force-depends python3-venv",
    "user:mlflow": "usermod -s /bin/bash mlflow",
    "file:/etc/rackwright/mlflow/auth.ini": "sed -i s/READ/MANAGE/ /etc/rackwright/mlflow/auth.ini",
    "file:/etc/rackwright/mlflow/accounts.json": "chmod 0644 /etc/rackwright/mlflow/accounts.json",
    "file:/opt/rackwright/mlflow/rackwright_functions.py": "echo >> /opt/rackwright/mlflow/rackwright_functions.py",
    "file:/etc/rackwright/mlflow/tls.key": "chmod 0644 /etc/rackwright/mlflow/tls.key",
    "file:/etc/systemd/system/mlflow.service": "sed -i s/127.0.0.1/0.0.0.0/ /etc/systemd/system/mlflow.service",
    "accounts:mlflow": f"python3 -c {shlex.quote(PROMOTE)}",
    "unit:mlflow.service": "systemctl stop mlflow.service",
}
"""By claim of the role what breaks it; its environment and its port beside."""


def test_each_promise_that_is_broken_is_found_under_its_path_and_mended(lab: Lab) -> None:
    wanted: set[Claimed] = set()
    for claim, script in BROKEN.items():
        lab.ssh(HOST, script)
        wanted.add((ROLE, claim))
    lab.ssh(HOST, "rm -r /opt/rackwright/mlflow/*/lib/python3*/site-packages/huey-*.dist-info")
    found = lab.audit_differences()
    beside = {claim.partition(":")[0] for _, claim in found - wanted}
    assert wanted <= found and beside == {"environment", "socket"}, format_claims(found ^ wanted)
    lab.apply()

    assert lab.audit_differences(status=0) == set()
    assert ask(lab, HOST, "axel", "GET", "registered-models/get?name=digits")[0] == 200

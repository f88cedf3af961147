"""Line 2, the role mlflow on a host without internet access: its server, its accounts and its broken claims."""

import json
import os
import shlex

import pytest

from rackwright.schema.secret import derive_value
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log
from tests.support.mlflow_accounts import account, ask

HOST = "alpha"
ROLE = f"{HOST}/mlflow"
FUNCTIONS = {"tina": "trainer", "rita": "reviewer", "axel": "auditor", "gate": "serving"}
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
"""Commands that break a claim of the role, by claim; its environment and its port also differ."""


@line("roles", 2, part="mlflow")
def test_each_broken_claim_of_the_role_mlflow_is_found_and_mended(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    users = [{**account(name), "function": function} for name, function in FUNCTIONS.items()]
    roles = {"base": {"security_updates": False}, "mlflow": {"admin": account("admin"), "users": users}}
    host = {"address": "192.0.2.1", "identity": {"serial": "S-ALPHA"}, "os": "debian-12", "roles": roles}
    fleet = json.dumps({"fleet": "tracked", "mirror": {}, "hosts": {HOST: host}})
    with Lab(log.empty_directory() / "project", fleet, log, containers=[HOST]) as lab:
        lab.start()
        log("fetching the packages of the role")
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        log("up")
        lab.up()
        _require_tls_on_loopback(lab)
        _require_rights_by_function(lab)
        _require_data_after_restart(lab)
        _require_secret_only_on_host(lab)
        _break_and_mend(lab)
    accounts = f"{len(FUNCTIONS)} accounts have the rights of their functions"
    return f"{accounts}; {len(BROKEN)} broken claims found, each under its path, and mended"


def _require_tls_on_loopback(lab: Lab) -> None:
    """The server answers at 127.0.0.1:5000 alone, without telemetry and pickles, and refuses an unknown account."""
    need(lab.audit_differences(status=0) == set(), "something differs right after up")
    listening = lab.ssh(HOST, "ss -Hltn 'sport = :5000' | tr -s ' ' | cut -d' ' -f4")
    need(listening == "127.0.0.1:5000", f"the server listens at {listening}")
    status, _ = ask(lab, HOST, "nobody", "GET", "experiments/get?experiment_id=0")
    need(status == 401, f"an unknown account gets status {status}")
    environment = lab.ssh(HOST, "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID mlflow.service)/environ").split()
    required = {"MLFLOW_DISABLE_TELEMETRY=true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false"}
    need(required <= set(environment), f"its environment lacks {', '.join(required - set(environment))}")
    users = lab.ssh(HOST, "ps -o user= -C python | sort -u")
    need(users == "mlflow", f"its processes run as {users}")


def _require_rights_by_function(lab: Lab) -> None:
    lab.log("requests of each account")

    def statuses(method: str, path: str, body: dict[str, str] | None = None) -> dict[str, int]:
        return {name: ask(lab, HOST, name, method, path, body)[0] for name in FUNCTIONS}

    created = {
        name: ask(lab, HOST, name, "POST", "experiments/create", {"name": f"of-{name}"})[0] for name in FUNCTIONS
    }
    need(created == {"tina": 200, "rita": 403, "axel": 403, "gate": 403}, f"new experiments: {created}")

    run = ask(lab, HOST, "tina", "POST", "runs/create", {"experiment_id": "0"})[1]["run"]["info"]["run_id"]
    version = {"name": "digits", "source": f"runs:/{run}/model", "run_id": run}
    for path, body in (("registered-models/create", {"name": "digits"}), ("model-versions/create", version)):
        status, answer = ask(lab, HOST, "tina", "POST", path, body)
        need(status == 200, f"{path} of a trainer: {status} {answer}")

    alias = {"name": "digits", "alias": "champion", "version": "1"}
    named = statuses("POST", "registered-models/alias", alias)
    need(named == {"tina": 403, "rita": 200, "axel": 403, "gate": 403}, f"aliases: {named}")
    tag = {"name": "digits", "version": "1", "key": "rackwright.fleet", "value": "another"}
    tagged = statuses("POST", "model-versions/set-tag", tag)
    need({*tagged.values()} == {403}, f"tags of provenance: {tagged}")

    read = statuses("GET", "model-versions/get?name=digits&version=1")
    need({*read.values()} == {200}, f"reading a version: {read}")
    runs = {name: ask(lab, HOST, name, "GET", f"runs/get?run_id={run}")[0] for name in ("gate", "axel")}
    need(runs == {"gate": 403, "axel": 200}, f"reading a run: {runs}")


def _require_data_after_restart(lab: Lab) -> None:
    lab.ssh(HOST, "systemctl restart mlflow.service")
    path = "registered-models/alias?name=digits&alias=champion"
    _, answer = ask(lab, HOST, "rita", "GET", path)
    need(answer["model_version"]["version"], f"after a restart the alias is {answer}")


def _require_secret_only_on_host(lab: Lab) -> None:
    """A password is in one file of root, and not in the state of the stack."""
    secret = derive_value("mlflow_tina")
    places = "/etc /opt/rackwright/mlflow/*.* /var/lib/mlflow /var/log /run/log"
    found = lab.ssh(HOST, f"grep -rlF {secret} {places}", status=None).split()
    need(found == ["/etc/rackwright/mlflow/accounts.json"], f"the password is in {', '.join(found)}")
    mode = lab.ssh(HOST, "stat -c '%a %U' /etc/rackwright/mlflow/accounts.json")
    need(mode == "600 root", f"the file of the passwords is {mode}")
    state = [path.read_text() for path in (lab.directory / ".rackwright/state").rglob("*.json")]
    need(state, "there is no state")
    need(not [text for text in state if secret in text], "the state has the password")


def _break_and_mend(lab: Lab) -> None:
    lab.log(f"breaking {len(BROKEN)} claims of mlflow")
    wanted: set[Claimed] = {(ROLE, claim) for claim in BROKEN}
    for script in BROKEN.values():
        lab.ssh(HOST, script)
    lab.ssh(HOST, "rm -r /opt/rackwright/mlflow/*/lib/python3*/site-packages/huey-*.dist-info")
    found = lab.audit_differences()
    beside = {claim.partition(":")[0] for _, claim in found - wanted}
    need(wanted <= found and beside == {"environment", "socket"}, f"found or missed: {format_claims(found ^ wanted)}")
    lab.log("up")
    lab.apply()
    need(lab.audit_differences(status=0) == set(), "something differs after up")
    status, _ = ask(lab, HOST, "axel", "GET", "registered-models/get?name=digits")
    need(status == 200, f"the model is read with status {status} after up")

"""MLflow keeps its tracking in PostgreSQL of role postgresql, on the same host of a twin."""

import json
import os
import shlex
from typing import Any

import pytest

from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.lab import Claimed, Lab, format_claims
from tests.support.log import Log
from tests.support.mlflow_accounts import account, ask
from tests.support.object_store import certificates

HOST, ADDRESS = "cedar", "10.147.0.11"
ROLE = f"{HOST}/postgresql"
PASSWORD = "50% of w/ö:rds @ 'home' \"#\\+&=?"
"""A password with each character that a URL, a file of settings or a shell could read as its own."""
ETC, DATA, BACKUPS = "/etc/rackwright/postgresql", "/srv/warm/postgresql/cluster", "/srv/warm/postgresql-backups"
BROKEN = {
    f"file:{ETC}/pg_hba.conf": f"echo 'host all all all trust' >> {ETC}/pg_hba.conf",
    f"file:{ETC}/postgresql.conf": f"sed -i s/log_connections/#log_connections/ {ETC}/postgresql.conf",
    f"file:{ETC}/accounts.sql": f"chmod 0644 {ETC}/accounts.sql",
    f"file:{ETC}/tls.key": f"chmod 0644 {ETC}/tls.key",
    f"state:{DATA}": f"chmod 0750 {DATA}",
    "user:postgres": "echo postgres:an-easy-one | chpasswd",
    "unit:rackwright-postgresql-backup.timer": "systemctl stop rackwright-postgresql-backup.timer",
}
"""Commands that break a claim of the role, by claim."""


def declaration(pem: dict[str, str]) -> dict[str, Any]:
    at = {"name": "mlflow", "account": "mlflow", "password": {"secret": "tracking"}}
    roles = {
        "base": {"security_updates": False},
        "postgresql": {
            "address": ADDRESS, "databases": [{**at, "clients": [ADDRESS]}], "data": {"tier": "warm"},
            "certificate": pem["host.crt"], "key": {"secret": "database_tls"}, "backup_directory": {"tier": "warm"},
            "backups_kept": 2,
        },
        "mlflow": {
            "admin": account("admin"), "users": [{**account("tina"), "function": "trainer"}],
            "postgresql": {"host": ADDRESS, **at}, "database_authority": pem["authority.crt"],
        },
    }  # fmt: skip
    host = {
        "os": "debian-12", "profile": "virtual", "network": {}, "address": "10.47.0.11",
        "identity": {"serial": "TRACKED-1"}, "tiers": {"warm": {"provided": True, "mount": "/srv/warm"}},
        "nics": [{"name": "fabric0", "mac": "52:54:00:00:47:01", "addresses": [f"{ADDRESS}/24"]}], "roles": roles,
    }  # fmt: skip
    return {"fleet": "tracked", "mirror": {}, "hosts": {HOST: host}}


@line("deploy", "postgresql")
def test_tracking_is_in_postgresql_on_a_host_of_the_fleet(log: Log) -> str:
    if os.geteuid() != 0:
        pytest.skip("containers need root")
    pem = certificates(log.empty_directory(), [ADDRESS])
    with Lab(log.directory / "project", json.dumps(declaration(pem)), log, containers=[HOST]) as lab:
        lab.pulumi("stack", "init", status=0)
        lab.set_secret("database_tls", pem["host.key"])
        lab.set_secret("tracking", PASSWORD)
        lab.start()
        log("fetching the packages of the roles")
        lab.rackwright("lock", "--fetch", lab.stack, status=0)
        log("up")
        lab.up()
        need(lab.differing() == set(), "something differs right after up")
        need(lab.audit_differences(status=0) == set(), "the audit is not clean")
        run = _log_a_run(lab)
        refused = _require_refusals(lab)
        _require_secret_only_of_mlflow(lab)
        _break_and_mend(lab)
        _back_up_and_restore(lab, run)
        _remove_and_add(lab, run)
    return f"a run is in PostgreSQL; {refused} connections refused; {len(BROKEN)} broken claims found and mended"


def sql(lab: Lab, command: str, database: str = "mlflow") -> str:
    """Return the answer to *command* of the administrator on the host."""
    argv = ["runuser", "-u", "postgres", "--", "psql", "-XAtd", database, "-c", command]
    return lab.ssh(HOST, f"cd / && {shlex.join(argv)}")


def _log_a_run(lab: Lab) -> str:
    """Log a run to MLflow, and return its id, which the database then has."""
    status, answer = ask(lab, HOST, "tina", "POST", "runs/create", {"experiment_id": "0"})
    need(status == 200, f"a run is answered with {status} {answer}")
    run = str(answer["run"]["info"]["run_id"])
    need(_runs(lab) == [run], f"the database has the runs {_runs(lab)}")
    left = lab.ssh(HOST, "find /var/lib/mlflow -name '*.db'")
    need(not left, f"there is {left} as well")
    return run


def _runs(lab: Lab, database: str = "mlflow") -> list[str]:
    return sql(lab, "SELECT run_uuid FROM runs", database).split()


def _connect(lab: Lab, password: str = PASSWORD, **more: str) -> str:
    """Return the answer to a connection of a client on the host: `1`, or the error."""
    at = {"host": ADDRESS, "user": "mlflow", "dbname": "mlflow", "sslmode": "verify-full"}
    at |= {"sslrootcert": "/etc/rackwright/mlflow/database.crt", **more}
    text = shlex.quote(" ".join(f"{name}={value}" for name, value in at.items()))
    script = f"export PGPASSWORD={shlex.quote(password)}; runuser -u nobody -- psql -wXAtc 'SELECT 1' {text} 2>&1"
    return lab.ssh(HOST, f"cd / && {script} || true")


def _require_refusals(lab: Lab) -> int:
    lab.log("connections that are refused")
    need(_connect(lab) == "1", f"the account gets {_connect(lab)}")
    cases: list[tuple[dict[str, str], str]] = [
        ({"sslmode": "disable"}, "no encryption"),
        ({"password": "another password"}, "password authentication failed"),
        ({"host": "127.0.0.1", "sslmode": "require"}, "no pg_hba.conf entry"),
        ({"host": "127.0.0.1"}, "does not match host name"),
        ({"dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"host": "/run/postgresql", "sslmode": "disable"}, "Permission denied"),
        ({"ssl_min_protocol_version": "TLSv1", "ssl_max_protocol_version": "TLSv1.1"}, "SSL error"),
    ]
    for given, expected in cases:
        answer = _connect(lab, **given)
        need(expected in answer, f"{given}: {answer}")
    listening = lab.ssh(HOST, "ss -Hltn 'sport = :5432' | tr -s ' ' | cut -d' ' -f4 | sort").split()
    need(listening == [f"{ADDRESS}:5432", "127.0.0.1:5432"], f"it listens at {listening}")
    return len(cases)


def _require_secret_only_of_mlflow(lab: Lab) -> None:
    """The password is in no file of PostgreSQL, in no log, on no command line, and not in the state."""
    parts = "of w/ö:rds\nof%20w%2F%C3%B6%3Ards\nof%%20w%%2F%%C3%%B6%%3Ards\n"
    lab.ssh(HOST, f"cat > /run/parts <<'END'\n{parts}END")
    found = lab.ssh(HOST, "grep -rlFf /run/parts /etc /var/lib/rackwright /var/log /srv/warm/postgresql", status=None)
    ours = {f"/etc/rackwright/mlflow/{name}" for name in ("auth.ini", "server.env")}
    need(set(found.split()) == ours, f"the password is in {found}")
    lines = lab.ssh(HOST, "journalctl --output cat | grep -cFf /run/parts", status=None)
    need(lines == "0", f"the journal has the password in {lines} lines")
    commands = lab.ssh(HOST, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -cFf /run/parts", status=None)
    need(commands == "0", "a command line has the password")
    state = [path.read_text() for path in (lab.directory / ".rackwright/state").rglob("*.json")]
    need(bool(state) and not [text for text in state if "of w/" in text], "the state has the password, or is not there")


def _break_and_mend(lab: Lab) -> None:
    lab.log(f"breaking {len(BROKEN)} claims")
    for script in BROKEN.values():
        lab.ssh(HOST, script)
    sql(lab, "ALTER ROLE mlflow SUPERUSER PASSWORD 'another'; CREATE ROLE eve SUPERUSER LOGIN PASSWORD 'eve'")
    sql(lab, "GRANT pg_read_server_files TO mlflow")
    sql(lab, "ALTER SYSTEM SET ssl = off")
    sql(lab, "ALTER SYSTEM SET listen_addresses = '*'")
    found, wanted = lab.audit_differences(), {(ROLE, claim) for claim in BROKEN}
    beside: set[Claimed] = {each for each in found - wanted if not each[1].startswith("read:")}
    need(wanted <= found and not beside, f"found or missed: {format_claims((wanted - found) | beside)}")
    lab.log("up")
    lab.apply()
    need(lab.audit_differences(status=0) == set(), "something differs after up")
    need(_connect(lab) == "1", f"the account gets {_connect(lab)} after up")
    rights = (
        "SELECT rolname, rolsuper, rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname IN ('mlflow', 'eve')"
    )
    accounts = sql(lab, f"{rights} ORDER BY 1").split()
    need(accounts == ["eve|f|f|t", "mlflow|f|t|f"], f"the accounts are {accounts}")
    member = sql(lab, "SELECT count(*) FROM pg_auth_members WHERE member = 'mlflow'::regrole")
    need(member == "0", "the account has a membership")
    lab.ssh(HOST, "systemctl restart rackwright-postgresql.service")
    need(
        sql(lab, "SHOW ssl") == "on" and sql(lab, "SHOW listen_addresses") == f"127.0.0.1,{ADDRESS}",
        "ALTER SYSTEM counts",
    )
    status, _ = ask(lab, HOST, "tina", "GET", "experiments/get?experiment_id=0")
    need(status == 200, f"MLflow answers {status} after a restart of its database")


def _back_up_and_restore(lab: Lab, run: str) -> None:
    lab.log("backups")
    next_second = "now=$(date +%s); until [ $(date +%s) != $now ]; do sleep 0.1; done"
    for _ in range(3):
        lab.ssh(HOST, f"systemctl start rackwright-postgresql-backup.service; {next_second}")
    kept = lab.ssh(HOST, f"stat -c '%a %U %n' {BACKUPS}/*").splitlines()
    need(len(kept) == 2 and all(each.startswith("600 postgres ") for each in kept), f"the backups are {kept}")
    newest = kept[-1].split()[-1]
    restore = f"pg_restore --exit-on-error --no-owner --role=mlflow --dbname=restored {newest}"
    lab.ssh(
        HOST, f"cd / && runuser -u postgres -- createdb --owner=mlflow restored && runuser -u postgres -- {restore}"
    )
    need(_runs(lab, "restored") == [run], f"the restored database has the runs {_runs(lab, 'restored')}")
    sql(lab, "DROP DATABASE restored", "postgres")
    lab.ssh(HOST, "systemctl stop mlflow.service rackwright-postgresql.service")
    lab.ssh(HOST, "systemctl start rackwright-postgresql-backup.service", status=1)
    state = lab.ssh(HOST, "systemctl is-failed rackwright-postgresql-backup.service")
    need(state == "failed", f"a backup without a server is {state}")
    after = lab.ssh(HOST, f"stat -c '%a %U %n' {BACKUPS}/*.dump").splitlines()
    need(after == kept, f"after a failed backup there are {after}")
    lab.ssh(HOST, "systemctl start rackwright-postgresql.service rackwright-postgresql-backup.service mlflow.service")


def _remove_and_add(lab: Lab, run: str) -> None:
    lab.log("removal of the roles")
    roles: dict[str, Any] = {}

    def remove(fleet: Any) -> None:
        for name in ("postgresql", "mlflow"):
            roles[name] = fleet["hosts"][HOST]["roles"].pop(name)

    lab.edit(remove)
    lab.apply()
    need(lab.audit_differences(status=0) == set(), "something differs after the removal")
    left = lab.ssh(
        HOST, f"cat {DATA}/PG_VERSION; ls {BACKUPS} | wc -l; systemctl list-units -q 'rackwright-postgresql*'"
    )
    need(left.split() == ["15", "2"], f"after the removal there are {left}")
    need(not lab.ssh(HOST, "ss -Hltn 'sport = :5432'"), "something still listens")
    lab.edit(lambda fleet: fleet["hosts"][HOST]["roles"].update(roles))
    lab.log("the same roles again")
    lab.apply()
    need(_runs(lab) == [run], f"the database has the runs {_runs(lab)} after the roles came back")

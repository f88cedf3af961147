"""The role postgresql: what it puts on a host, what it refuses, and whom its server answers."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rackwright.kinds.role.password_hash import prepare_password, scram_verifier
from rackwright.kinds.role.refusals import refusals
from tests.support.expect import eventually
from tests.support.object_store import free_ports
from tests.support.our_roles import ROLES
from tests.support.postgresql import ETC, OTHER, PASSWORD, TRACKING, Server, files, promised, spec

SOURCE = ROLES["postgresql"]
UNIT = "/etc/systemd/system/rackwright-postgresql"


def test_no_password_is_on_the_host() -> None:
    made = promised()
    written = files(made)

    assert not [path for path, text in written.items() if PASSWORD in text]
    assert made.secret_files == {f"{ETC}/accounts.sql", f"{ETC}/tls.key"}
    rights = {file.file: (file.mode, file.owner) for file in made.files}
    assert rights[f"{ETC}/accounts.sql"] == ("0600", "root:root")
    assert rights[f"{ETC}/tls.key"] == ("0640", "root:postgres")


def test_a_verifier_depends_on_password_and_account_and_its_salt_on_the_account_alone() -> None:
    """
    An unchanged declaration has the same file, and the salt reveals nothing of the password.
    """
    one, other, elsewhere = (
        scram_verifier(password, account, b"key") for password, account in (("one", "a"), ("other", "a"), ("one", "b"))
    )

    assert scram_verifier.__wrapped__("one", "a", b"key") == one
    assert one.split("$")[1] == other.split("$")[1] and one != other
    assert one.split("$")[1] != elsewhere.split("$")[1]


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain 'text' %", "plain 'text' %"),
        ("I\u00adX", "IX"),  # RFC 4013, section 3
        ("\u00aaa", "aa"),
        ("\u2168", "IX"),
        ("no\u00a0break", "no break"),
        ("\u00e9\u0007", "\u00e9\u0007"),  # refused: PostgreSQL takes it unchanged
        ("\u06271", "\u06271"),
    ],
)
def test_a_password_is_prepared_as_clients_do(password: str, prepared: str) -> None:
    assert prepare_password(password) == prepared


def test_pg_hba_has_the_declared_clients_of_each_database_alone() -> None:
    databases = [{**TRACKING, "clients": ["192.0.2.11", "2001:db8::/64"]}, OTHER]
    lines = files(promised(databases=databases))[f"{ETC}/pg_hba.conf"].splitlines()

    assert lines[1:] == [
        "local all postgres peer",
        'hostssl "mlflow" "tracker" 192.0.2.11/32 scram-sha-256',
        'hostssl "mlflow" "tracker" 2001:db8::/64 scram-sha-256',
        'hostssl "other" "other" ::1/128 scram-sha-256',
    ]


@pytest.mark.parametrize(("address", "listens"), [("127.0.0.1", "127.0.0.1"), ("192.0.2.11", "127.0.0.1,192.0.2.11")])
def test_it_listens_at_its_address_and_on_loopback_alone(address: str, listens: str) -> None:
    made = promised(address=address, port=5555)
    unit = files(made)[f"{UNIT}.service"]

    assert f" -c listen_addresses={listens} -c port=5555 " in unit
    assert f" --host={address} --port=5555\n" in unit
    [socket] = [entry for entry in made.entries if entry.sort == "socket"]
    assert socket.thing == "socket:tcp:5555"


def test_the_cluster_and_the_backups_wait_for_their_mounts() -> None:
    written = files(promised(data="/srv/warm", backup_directory="/srv/cold", backup_hours=6))

    assert "\nRequiresMountsFor=/srv/warm\n" in written[f"{UNIT}.service"]
    assert "\nReadWritePaths=/srv/warm/postgresql/cluster /run/postgresql\n" in written[f"{UNIT}.service"]
    assert "\nRequiresMountsFor=/srv/cold\n" in written[f"{UNIT}-backup.service"]
    assert "\nOnUnitActiveSec=6h\n" in written[f"{UNIT}-backup.timer"]
    assert not [path for path in files(promised()) if "backup" in path]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"databases": []}, "got none"),
        ({"databases": [TRACKING, {**OTHER, "name": "mlflow"}]}, "got the database mlflow more than once"),
        ({"databases": [TRACKING, {**OTHER, "account": "tracker"}]}, "got the account tracker more than once"),
        ({"databases": [{**TRACKING, "name": 'a"b'}]}, 'got the name "a\\"b"'),
        ({"databases": [{**TRACKING, "name": "template1"}]}, 'got the name "template1"'),
        ({"databases": [{**TRACKING, "account": "postgres"}]}, 'got the name "postgres"'),
        ({"databases": [{**TRACKING, "account": "pg_monitor"}]}, 'got the name "pg_monitor"'),
        ({"databases": [{**TRACKING, "password": "in clear text"}]}, "got the password of tracker in plain text"),
        ({"databases": [{**TRACKING, "clients": []}]}, "got no clients of mlflow"),
        ({"databases": [{**TRACKING, "clients": ["192.0.2.1", "0.0.0.0/0"]}]}, "got 0.0.0.0/0 as a client of mlflow"),
        ({"databases": [{**TRACKING, "clients": ["::/0"]}]}, "got ::/0 as a client of mlflow"),
        ({"certificate": ""}, "got no certificate"),
        ({"key": ""}, "got no key"),
        ({"key": "in clear text"}, "got the key in plain text"),
        ({"port": 543}, "got 543"),
        ({"data": "/"}, 'got "/"'),
        ({"backup_directory": "/srv/a b"}, 'got "/srv/a b"'),
    ],
)
def test_what_cannot_be_is_refused(variables: dict[str, Any], problem: str) -> None:
    assert list(SOURCE.problems("debian-12", spec(**variables).variables)) == [], "each is of its type"
    assert [each.diagnostic.problem for each in refusals(SOURCE, "debian-12", spec(**variables).variables)] == [problem]


# --- the server as the role starts it, on loopback


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="rw-") as name:  # short enough for a socket
        Path(name).chmod(0o755)
        server = Server(Path(name), free_ports(1)[0])
        try:
            server.start()
            server.write_accounts()
            yield server
        finally:
            server.stop()


def test_an_account_connects_with_tls_and_its_password_from_its_address_to_its_database(running: Server) -> None:
    assert running.connect() == "1"
    cases: list[tuple[dict[str, str], str]] = [
        ({"sslmode": "disable"}, "no encryption"),
        ({"password": "another password"}, "password authentication failed"),
        ({"dbname": "postgres"}, "no pg_hba.conf entry"),
        ({"user": "postgres"}, "no pg_hba.conf entry"),
        ({"host": "localhost"}, "does not match host name"),
        ({"host": str(running.directory / "run/postgresql"), "sslmode": "disable"}, "no pg_hba.conf entry"),
        ({"ssl_min_protocol_version": "TLSv1", "ssl_max_protocol_version": "TLSv1.1"}, "SSL error"),
    ]
    for given, expected in cases:
        assert expected in running.connect(**given), given
    assert not [line for line in running.log.splitlines() if PASSWORD in line or "SCRAM-SHA" in line]


def test_a_second_run_changes_nothing(running: Server) -> None:
    running.write_accounts()
    assert running.write_accounts() == ""


def test_rights_that_are_not_declared_are_taken_away(running: Server) -> None:
    """
    Also those that come from a membership, and accounts that are not declared.
    """
    running.sql("ALTER ROLE tracker SUPERUSER CREATEROLE VALID UNTIL '2000-01-01' PASSWORD 'another'")
    running.sql("GRANT pg_execute_server_program TO tracker")
    running.sql("CREATE ROLE eve SUPERUSER LOGIN PASSWORD 'eve'; ALTER ROLE postgres PASSWORD 'known'")
    running.sql("ALTER DATABASE mlflow OWNER TO eve")
    assert running.write_accounts().split("\n")[:-1] == [
        "ALTER ROLE", "ALTER ROLE", "ALTER ROLE", "REVOKE ROLE", "ALTER DATABASE",
    ]  # fmt: skip

    assert running.connect() == "1" and running.write_accounts() == ""
    accounts = running.sql(
        "SELECT rolname, rolsuper, rolcanlogin, rolcreaterole, rolpassword IS NULL FROM pg_authid"
        " WHERE rolname !~ '^pg_' ORDER BY 1"
    ).split()
    assert accounts == ["eve|f|f|f|t", "postgres|t|t|t|t", "tracker|f|t|f|f"]
    assert running.sql("SELECT count(*) FROM pg_auth_members WHERE member = 'tracker'::regrole") == "0"


def test_settings_of_the_unit_come_before_those_of_alter_system(running: Server) -> None:
    settings = {"ssl": "off", "hba_file": "/tmp/x", "listen_addresses": "*", "ssl_min_protocol_version": "TLSv1"}
    for name, value in settings.items():
        running.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    running.stop()
    running.start()

    assert [running.sql(f"SHOW {name}") for name in settings] == [
        "on", str(running.directory / "etc/rackwright/postgresql/pg_hba.conf"), "127.0.0.1", "TLSv1.2",
    ]  # fmt: skip
    running.sql("ALTER SYSTEM RESET ALL")


def test_a_changed_password_is_the_new_one(running: Server) -> None:
    changed = "Pässe: 100% 'neu' \\ \""
    running.write({"tracking": changed})
    running.write_accounts()
    answers = running.connect(changed), running.connect()
    running.write()
    running.write_accounts()

    assert answers[0] == "1" and "password authentication failed" in answers[1]


def test_a_backup_is_kept_if_it_is_whole(running: Server) -> None:
    running.sql("CREATE TABLE IF NOT EXISTS runs (id text)", "mlflow")
    running.sql("ALTER TABLE runs OWNER TO tracker; INSERT INTO runs VALUES ('one')", "mlflow")
    (running.backups / "mlflow-20260101T000000Z.dump").touch()
    (running.backups / "mlflow-20260102T000000Z.dump").touch()
    (running.backups / "mlflow-20260103T000000Z.dump.partial").touch()
    done = running.back_up()
    assert done.returncode == 0, done.stderr

    earlier, newest = sorted(running.backups.iterdir())
    assert earlier.name == "mlflow-20260102T000000Z.dump"
    assert re.fullmatch(r"mlflow-\d{8}T\d{6}Z\.dump", newest.name) and newest.stat().st_mode & 0o777 == 0o600
    at = ["-h", str(running.directory / "run/postgresql"), "-p", str(running.port)]
    running.sql("CREATE DATABASE restored OWNER tracker")
    options = ["--exit-on-error", "--no-owner", "--role=tracker", "--dbname=restored"]
    done = running.run([str(running.programs / "pg_restore"), *at, *options, str(newest)])
    assert done.returncode == 0, done.stderr
    assert running.sql("SELECT id FROM runs", "restored") == "one"
    running.sql("DROP DATABASE restored")


def test_a_backup_that_fails_leaves_the_earlier_ones(running: Server) -> None:
    """
    A table that the account may not read is one that was made by the administrator's hand.
    """
    kept = running.backups / "mlflow-20260102T000000Z.dump"
    kept.touch()
    before = {path for path in running.backups.iterdir() if path.suffix == ".dump"}
    running.sql("CREATE TABLE of_another (id text)", "mlflow")
    done = running.back_up()
    running.sql("DROP TABLE of_another", "mlflow")

    assert done.returncode == 1 and "no backup of mlflow" in done.stderr
    assert {path for path in running.backups.iterdir() if path.suffix == ".dump"} == before


def test_a_dump_without_its_end_is_no_backup(running: Server, tmp_path: Path) -> None:
    """
    `pg_restore --list` reads the beginning of a dump alone.
    """
    script = running.directory / "usr/local/sbin/rackwright-postgresql-backup"
    text = script.read_text()
    cut = text.replace(
        '--file="$new.partial" "$1" &&', '--file="$new.partial" "$1" &&\n truncate -s -9 "$new.partial" &&'
    )
    assert cut != text
    running.sql("CREATE TABLE much AS SELECT md5(n::text) FROM generate_series(1, 9999) AS n", "mlflow")
    running.sql("ALTER TABLE much OWNER TO tracker", "mlflow")
    before = {path for path in running.backups.iterdir() if path.suffix == ".dump"}
    script.write_text(cut)
    done = running.back_up()
    script.write_text(text)
    running.sql("DROP TABLE much", "mlflow")

    assert done.returncode == 1 and {path for path in running.backups.iterdir() if path.suffix == ".dump"} == before
    [partial] = running.backups.glob("*.partial")
    assert running.run([str(running.programs / "pg_restore"), "--list", str(partial)]).returncode == 0


def test_a_client_is_removed_without_a_restart(running: Server) -> None:
    running.write(databases=[{**TRACKING, "clients": ["192.0.2.1"]}])
    assert running.process is not None
    running.process.send_signal(1)
    eventually(lambda: "no pg_hba.conf entry" in running.connect(), "the client is refused")
    running.write()
    running.process.send_signal(1)
    eventually(lambda: running.connect() == "1", "the client is accepted again")

"""The accounts of a tracking server; of a real one, tests/workloads/common/tracking asks."""

import sqlite3

import pytest

from rackwright.facts.facts import Facts
from rackwright.facts.probe import tracking
from rackwright.facts.probe.observe import attempt
from rackwright.kinds.role.entries import Accounts
from rackwright.kinds.role.observe import observe_property
from tests.support.fabricated_machine import FabricatedMachine
from tests.support.our_roles import REPOSITORY


@pytest.fixture
def machine(tmp_path):
    return FabricatedMachine(tmp_path)


def test_a_host_without_such_a_server_has_no_accounts(machine):
    assert tracking.accounts(machine.top) == {}


@pytest.mark.parametrize(
    ("configured", "content", "reason"),
    [
        ("postgresql://a:b@c/d", None, "the accounts are in a database that the probe does not read"),
        (
            "sqlite:////var/lib/mlflow/accounts.db",
            b"no database at all, but more than a header of one",
            "not a database",
        ),
    ],
)
def test_what_cannot_be_asked_is_unknown(machine, configured, content, reason):
    machine.write("etc/rackwright/mlflow/auth.ini", f"[mlflow]\ndatabase_uri = {configured}\n")
    if content:
        machine.write("var/lib/mlflow/accounts.db", content * 20)

    found = attempt(tracking.accounts, machine.top)
    assert reason in found["unknown"] and "b@c" not in found["unknown"]


def test_accounts_are_compared_as_a_whole():
    """
    One too many, one too few and another function all show.
    """
    claim = Accounts(accounts="mlflow", functions='{"tina": "trainer", "admin": "admin"}').claim(REPOSITORY)
    assert claim.want == {"functions": ("admin: admin", "tina: trainer")}

    def seen(**there: list[str]) -> object:
        return observe_property(Facts({"tracking_accounts": there}), "accounts", "mlflow", "functions", claim)

    assert seen(admin=["admin"], tina=["trainer"]) == claim.want["functions"]
    assert seen(admin=["admin"], tina=["trainer"], mallory=[]) == ("admin: admin", "mallory: none", "tina: trainer")
    assert seen(admin=["admin"], tina=["auditor", "trainer"]) == ("admin: admin", "tina: auditor trainer")
    assert seen() == ()


def test_an_account_has_the_roles_that_it_was_given_and_no_single_permission(machine):
    machine.write("var/lib/mlflow/accounts.db", "")
    with sqlite3.connect(f"{machine.top}/var/lib/mlflow/accounts.db") as database:
        database.executescript("""
            CREATE TABLE users (id, username, is_admin); CREATE TABLE roles (id, name);
            CREATE TABLE user_role_assignments (user_id, role_id);
            INSERT INTO users VALUES (1, 'admin', 1), (2, 'tina', 0);
            INSERT INTO roles VALUES (1, 'trainer'), (2, '__user_2__');
            INSERT INTO user_role_assignments VALUES (2, 1), (2, 2);
        """)

    assert tracking.accounts(machine.top) == {"admin": ["admin"], "tina": ["trainer"]}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            "CREATE VIEW users AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
            " SELECT x AS id, 'a' AS username, 0 AS is_admin FROM c;",
            "has no table users",
        ),
        ("CREATE TABLE users (id, username, is_admin); INSERT INTO users VALUES (1, x'ff', 0);", "without a name"),
    ],
)
def test_a_database_that_holds_something_else_is_unknown(machine, schema, reason):
    machine.write("var/lib/mlflow/accounts.db", "")
    with sqlite3.connect(f"{machine.top}/var/lib/mlflow/accounts.db") as database:
        database.executescript(schema + "CREATE TABLE roles (id, name);")
        database.execute("CREATE TABLE user_role_assignments (user_id, role_id)")

    assert reason in attempt(tracking.accounts, machine.top)["unknown"]


def test_a_query_that_takes_too_long_is_interrupted(machine, monkeypatch):
    machine.write("var/lib/mlflow/accounts.db", "")
    with sqlite3.connect(f"{machine.top}/var/lib/mlflow/accounts.db") as database:
        database.executescript("CREATE TABLE users (id, username, is_admin); CREATE TABLE roles (id, name);")
        database.execute("CREATE TABLE user_role_assignments (user_id, role_id)")
        database.execute("INSERT INTO users VALUES (1, 'a', 0)")
    monkeypatch.setattr(tracking, "ANSWER_SECONDS", -1)
    monkeypatch.setattr(tracking, "STEPS", 1)

    assert "interrupted" in attempt(tracking.accounts, machine.top)["unknown"]

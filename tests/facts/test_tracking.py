"""The accounts of a tracking server; of a real one, tests/workloads/common/tracking asks."""

import sqlite3

import pytest

from rackwright.core.diff import holds
from rackwright.facts.facts import Facts
from rackwright.facts.probe import tracking
from rackwright.facts.probe.observe import attempt
from rackwright.kinds.role.entries.accounts import Accounts
from rackwright.kinds.role.observe import observe_property
from tests.support.fabricated_machine import FabricatedMachine
from tests.support.our_roles import REPOSITORY

CLAIM = Accounts(
    accounts="mlflow",
    functions='{"tina": "trainer", "admin": "admin"}',
    rights='{"trainer": {"experiment": "EDIT"}, "serving": {}}',
    makers='["admin", "trainer"]',
).claim(REPOSITORY)


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
    claim = CLAIM
    assert claim.want["functions"] == ("admin: admin", "tina: trainer")

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


TABLES = """
    CREATE TABLE users (id, username, is_admin); CREATE TABLE roles (id, name, workspace);
    CREATE TABLE user_role_assignments (user_id, role_id);
    CREATE TABLE role_permissions (id, role_id, resource_type, resource_pattern, permission);
    INSERT INTO users VALUES (1, 'admin', 1), (2, 'tina', 0);
    INSERT INTO roles VALUES (1, 'trainer', 'default'), (2, '__user_2__', 'default');
    INSERT INTO user_role_assignments VALUES (2, 1), (2, 2);
    INSERT INTO role_permissions VALUES (1, 1, 'experiment', '*', 'EDIT'), (2, 2, 'experiment', '7', 'MANAGE');
    INSERT INTO role_permissions VALUES (3, 2, 'registered_model', 'digits', 'MANAGE');
"""
MADE = "account tina: MANAGE of what it made"


def rights(machine, change=""):
    """Return the differences in rights, by property, after *change* of the database."""
    machine.write("var/lib/mlflow/accounts.db", "")
    with sqlite3.connect(f"{machine.top}/var/lib/mlflow/accounts.db") as database:
        database.executescript(TABLES + change)
    facts = Facts({"tracking_rights": tracking.rights(machine.top)})
    found = {name: observe_property(facts, "accounts", "mlflow", name, CLAIM) for name in ("rights", "lacking")}
    return {name: value for name, value in found.items() if not holds(CLAIM.want[name], value)}


def test_what_mlflow_gives_to_the_maker_of_things_is_no_difference(machine):
    assert rights(machine) == {}
    assert tracking.rights(machine.top) == {
        "account tina": ["MANAGE of what it made"], "role trainer": ["EDIT of every experiment"],
    }  # fmt: skip


ROLE, GRANT = "INSERT INTO roles VALUES", "INSERT INTO role_permissions VALUES"
HOLD = "INSERT INTO user_role_assignments VALUES"
SEEDS = {
    "role trainer: MANAGE of every experiment": [f"{GRANT} (9, 1, 'experiment', '*', 'MANAGE')"],
    "role boss: MANAGE of every workspace": [
        f"{ROLE} (9, 'boss', 'default')", f"{GRANT} (9, 9, 'workspace', '*', 'MANAGE')",
    ],
    "account tina: MANAGE of every experiment": [f"{GRANT} (9, 2, 'experiment', '*', 'MANAGE')"],
    "account tina: USE of gateway_secret x": [f"{GRANT} (9, 2, 'gateway_secret', 'x', 'USE')"],
    "account admin: MANAGE of what it made, by __user_2__": [f"{HOLD} (1, 2)"],
    "account tina: MANAGE of what it made in the workspace other": [
        "UPDATE roles SET workspace = 'other' WHERE id = 2",
    ],
    "account gate: MANAGE of what it made": [
        "INSERT INTO users VALUES (3, 'gate', 0)", f"{ROLE} (3, '__user_3__', 'default')", f"{HOLD} (3, 3)",
        f"{GRANT} (9, 3, 'experiment', '7', 'MANAGE')",
    ],
    "role __user_9__: READ of every experiment": [
        f"{ROLE} (9, '__user_9__', 'default')", f"{GRANT} (9, 9, 'experiment', '*', 'READ')",
    ],
}  # fmt: skip
"""Changes of the database, by the right that they give."""


@pytest.mark.parametrize("expected", SEEDS)
def test_a_right_that_the_fleet_does_not_declare_is_a_difference(machine, expected):
    """
    A right in the server's database was in no audit.
    """
    [(name, value)] = rights(machine, ";".join(SEEDS[expected])).items()
    assert name == "rights" and expected in value and not holds(CLAIM.want["rights"], (expected,))


def test_a_function_without_its_right_is_a_difference(machine):
    found = rights(machine, "DELETE FROM role_permissions WHERE role_id = 1")
    assert found == {"lacking": ("role trainer: EDIT of every experiment",)}


def test_rights_of_another_form_are_unknown(machine, monkeypatch):
    machine.write("var/lib/mlflow/accounts.db", "")
    with sqlite3.connect(f"{machine.top}/var/lib/mlflow/accounts.db") as database:
        database.executescript(f"{TABLES}{GRANT} (9, 1, x'ff', '*', 'EDIT');")
    assert "one of another form" in attempt(tracking.rights, machine.top)["unknown"]
    with sqlite3.connect(f"{machine.top}/var/lib/mlflow/accounts.db") as database:
        database.execute("DROP TABLE role_permissions")
    assert "has no table role_permissions" in attempt(tracking.rights, machine.top)["unknown"]

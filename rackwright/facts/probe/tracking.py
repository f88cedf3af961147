"""The accounts of the tracking server on this host, from the server's database."""

from __future__ import annotations

import os
import re
import time
from contextlib import closing

from rackwright.facts.probe.isolate import become_owner, isolate
from rackwright.facts.probe.observe import ReadError, read, unwrap

CONFIGURATION, DATABASE = "/etc/rackwright/mlflow/auth.ini", "/var/lib/mlflow/accounts.db"
WAIT_SECONDS = 5
"""Maximum wait for a writer that locks the database."""
ANSWER_SECONDS, STEPS = 10, 10_000
"""Time limit of all queries, and the number of steps of SQLite's virtual machine between two checks of that limit."""
ROWS, LENGTH = 10_000, 256
"""Maximum number of rows, and of characters of a name."""
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND lower(sql) NOT LIKE 'create virtual%'"
# Source: MLflow 3.17, mlflow/server/auth/db/models.py. Its roles for single permissions begin with two underscores
ACCOUNTS = """
SELECT users.username, users.is_admin, roles.name FROM users
LEFT JOIN user_role_assignments ON user_role_assignments.user_id = users.id
LEFT JOIN roles ON roles.id = user_role_assignments.role_id AND substr(roles.name, 1, 2) != '__'
"""


def accounts(root: str) -> dict[str, list[str]]:
    """Return the roles of each account, such as ``admin`` and ``trainer``; empty if the host has no such server."""
    if not os.path.exists(f"{root}{DATABASE}"):
        if os.path.exists(f"{root}{CONFIGURATION}"):
            scheme = re.search(r"^database_uri = (\w+):", read(f"{root}{CONFIGURATION}"), re.MULTILINE)
            if scheme is None or scheme[1] != "sqlite":
                raise ReadError("the accounts are in a database that the probe does not read")
        return {}
    functions: dict[str, list[str]] = unwrap(isolate("its database", read_accounts, root + DATABASE))
    return functions


def read_accounts(path: str) -> dict[str, list[str]]:
    """Return the roles of each account from the server's database, read with the rights of the server's account.

    The database may contain anything, such as a view without an end in the place of a table. Time and rows are limited.
    """
    import sqlite3  # few hosts have the database, and the two modules take 5 ms
    from urllib.parse import quote

    become_owner(os.path.dirname(path))
    by_account: dict[str, set[str]] = {}
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", timeout=WAIT_SECONDS, uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("BEGIN")
            end = time.monotonic() + ANSWER_SECONDS
            database.set_progress_handler(lambda: time.monotonic() > end, STEPS)
            tables = {name for (name,) in database.execute(TABLES)}
            if missing := sorted({"users", "roles", "user_role_assignments"} - tables):
                raise ReadError(f"{DATABASE} has no table {', '.join(missing)}")
            for number, (name, admin, role) in enumerate(database.execute(ACCOUNTS)):
                if number == ROWS or not isinstance(name, str) or not isinstance(role, (str, type(None))):
                    raise ReadError(f"{DATABASE} holds more than {ROWS} accounts, or one without a name")
                functions = by_account.setdefault(name[:LENGTH], set())
                functions.update(["admin"] if admin else [], [role[:LENGTH]] if role else [])
    except sqlite3.Error as error:
        raise ReadError(f"{DATABASE}: {error}") from None
    return {name: sorted(functions) for name, functions in sorted(by_account.items())}

"""Who has an account at the tracking server of this host, by the server's own database."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from contextlib import closing
from urllib.parse import quote

from rackwright.facts.probe.apart import apart, become_owner
from rackwright.facts.probe.observe import ReadError, known, read

CONFIGURATION, DATABASE = "/etc/rackwright/mlflow/auth.ini", "/var/lib/mlflow/accounts.db"
WAIT_SECONDS = 5
"""How long a writer may hold the database."""
ANSWER_SECONDS, STEPS = 10, 10_000
"""How long the database may take to answer, and after how many steps of SQLite's machine that is compared."""
ROWS, LENGTH = 10_000, 256
"""How many rows are read at most, and how many characters of a name."""
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND lower(sql) NOT LIKE 'create virtual%'"
# Source: MLflow 3.17, mlflow/server/auth/db/models.py. Roles that it makes for single permissions begin with two lines
ACCOUNTS = """
SELECT users.username, users.is_admin, roles.name FROM users
LEFT JOIN user_role_assignments ON user_role_assignments.user_id = users.id
LEFT JOIN roles ON roles.id = user_role_assignments.role_id AND substr(roles.name, 1, 2) != '__'
"""


def accounts(root: str) -> dict[str, list[str]]:
    """Return by account what it is there: ``admin``, ``trainer``; none where there is no such server."""
    if not os.path.exists(f"{root}{DATABASE}"):
        if os.path.exists(f"{root}{CONFIGURATION}"):
            place = re.search(r"^database_uri = (\w+):", read(f"{root}{CONFIGURATION}"), re.MULTILINE)
            if place is None or place[1] != "sqlite":
                raise ReadError("the accounts are in a database that is not asked")
        return {}
    found: dict[str, list[str]] = known(apart("its database", ask, root + DATABASE))
    return found


def ask(path: str) -> dict[str, list[str]]:
    """Return by account what it is, from a database that belongs to the server's account, with that account's rights.

    The database may hold anything: a view in place of a table may never end, and no more is read than a server needs.
    """
    become_owner(os.path.dirname(path))
    found: dict[str, set[str]] = {}
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
                functions = found.setdefault(name[:LENGTH], set())
                functions.update(["admin"] if admin else [], [role[:LENGTH]] if role else [])
    except sqlite3.Error as error:
        raise ReadError(f"{DATABASE}: {error}") from None
    return {name: sorted(functions) for name, functions in sorted(found.items())}

"""The accounts of the tracking server on this host and their rights, from the server's database."""

from __future__ import annotations

import os
import re
import time
from contextlib import closing, contextmanager
from typing import Any, Callable, Iterator

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
# MLflow has a role for the single rights of one account, and gives MANAGE of each thing to the account that made it
RIGHTS = """
SELECT DISTINCT name, workspace, permission,
CASE made WHEN 1 THEN '' ELSE resource_type END, CASE made WHEN 1 THEN '' ELSE resource_pattern END
FROM (
    SELECT roles.name, roles.workspace, permission, resource_type, resource_pattern,
    roles.name GLOB '__user_[0-9]*__' AND permission = 'MANAGE' AND resource_pattern != '*' AS made
    FROM role_permissions JOIN roles ON roles.id = role_permissions.role_id
)
"""
HOLDERS = """
SELECT roles.name, users.id, users.username FROM user_role_assignments
JOIN roles ON roles.id = user_role_assignments.role_id JOIN users ON users.id = user_role_assignments.user_id
WHERE roles.name GLOB '__user_[0-9]*__'
"""
WORKSPACE = "default"
"""The workspace in which a server without workspaces looks for roles."""
OWN = "MANAGE of what it made"


def accounts(root: str) -> dict[str, list[str]]:
    """Return the roles of each account, such as ``admin`` and ``trainer``; empty if the host has no such server."""
    functions: dict[str, list[str]] = _ask(root, read_accounts)
    return functions


def rights(root: str) -> dict[str, list[str]]:
    """Return the rights that the server's database gives, by ``role NAME`` or ``account NAME``.

    The server applies those of roles that an account has. A right of MLflow's own is `OWN`, however many there are.
    """
    found: dict[str, list[str]] = _ask(root, read_rights)
    return found


def _ask(root: str, reader: Callable[[str], Any]) -> Any:
    """Return the answer of *reader* in a process of its own; empty if the host has no such server."""
    if not os.path.exists(f"{root}{DATABASE}"):
        if os.path.exists(f"{root}{CONFIGURATION}"):
            scheme = re.search(r"^database_uri = (\w+):", read(f"{root}{CONFIGURATION}"), re.MULTILINE)
            if scheme is None or scheme[1] != "sqlite":
                raise ReadError("the accounts are in a database that the probe does not read")
        return {}
    return unwrap(isolate("its database", reader, root + DATABASE))


@contextmanager
def open_database(path: str, tables: set[str]) -> Iterator[Any]:
    """Yield the server's database, read with the rights of the server's account.

    The database may contain anything, such as a view without an end in the place of a table. Time and rows are limited.

    Raises:
        ReadError: It lacks one of *tables*, or takes too long.
    """
    import sqlite3  # few hosts have the database, and the two modules take 5 ms
    from urllib.parse import quote

    become_owner(os.path.dirname(path))
    try:
        with closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", timeout=WAIT_SECONDS, uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("BEGIN")
            end = time.monotonic() + ANSWER_SECONDS
            database.set_progress_handler(lambda: time.monotonic() > end, STEPS)
            if missing := sorted(tables - {name for (name,) in database.execute(TABLES)}):
                raise ReadError(f"{DATABASE} has no table {', '.join(missing)}")
            yield database
    except sqlite3.Error as error:
        raise ReadError(f"{DATABASE}: {error}") from None


def read_accounts(path: str) -> dict[str, list[str]]:
    """Return the roles of each account from the server's database."""
    by_account: dict[str, set[str]] = {}
    with open_database(path, {"users", "roles", "user_role_assignments"}) as database:
        for number, (name, admin, role) in enumerate(database.execute(ACCOUNTS)):
            if number == ROWS or not isinstance(name, str) or not isinstance(role, (str, type(None))):
                raise ReadError(f"{DATABASE} holds more than {ROWS} accounts, or one without a name")
            functions = by_account.setdefault(name[:LENGTH], set())
            functions.update(["admin"] if admin else [], [role[:LENGTH]] if role else [])
    return {name: sorted(functions) for name, functions in sorted(by_account.items())}


def read_rights(path: str) -> dict[str, list[str]]:
    """Return the rights of roles and accounts from the server's database."""
    found: dict[str, set[str]] = {}
    with open_database(path, {"users", "roles", "user_role_assignments", "role_permissions"}) as database:
        holders: dict[str, set[tuple[int, str]]] = {}
        for role, user, name in _rows(database, HOLDERS, (str, int, str)):
            holders.setdefault(role, set()).add((user, name))
        for role, workspace, permission, kind, pattern in _rows(database, RIGHTS, (str,) * 5):
            each = "every " if pattern == "*" else ""
            right = f"{permission} of {each}{kind}{'' if each else f' {pattern}'}"[:LENGTH] if kind else OWN
            if workspace != WORKSPACE:
                right += f" in the workspace {workspace[:LENGTH]}"
            for user, name in holders.get(role) or {(-1, "")}:
                of_another = "" if role == f"__user_{user}__" else f", by {role[:LENGTH]}"
                holder, more = (f"account {name[:LENGTH]}", of_another) if name else (f"role {role[:LENGTH]}", "")
                found.setdefault(holder, set()).add(right + more)
    return {holder: sorted(rights) for holder, rights in sorted(found.items())}


def _rows(database: Any, query: str, types: tuple[type, ...]) -> Iterator[Any]:
    """Yield the rows of a query, whose values have these *types*.

    Raises:
        ReadError: There are too many, or one has another form.
    """
    for number, row in enumerate(database.execute(query)):
        if number == ROWS or not all(isinstance(value, type) for value, type in zip(row, types)):
            raise ReadError(f"{DATABASE} holds more than {ROWS} rights, or one of another form")
        yield row

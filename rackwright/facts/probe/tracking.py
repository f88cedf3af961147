"""Who has an account at the tracking server of this host, by the server's own database."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from urllib.parse import quote

from rackwright.facts.probe.look import Unreadable, read

CONFIGURATION, DATABASE = "/etc/rackwright/mlflow/auth.ini", "/var/lib/mlflow/accounts.db"
WAIT_SECONDS = 5
"""How long somebody who writes may take."""
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
                raise Unreadable("the accounts are in a database that is not asked")
        return {}
    found: dict[str, set[str]] = {}
    uri = f"file:{quote(root + DATABASE)}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, timeout=WAIT_SECONDS, uri=True)) as database:
            for name, admin, role in database.execute(ACCOUNTS):
                found.setdefault(name, set()).update(["admin"] if admin else [], [role] if role else [])
    except sqlite3.Error as error:
        raise Unreadable(f"{DATABASE}: {error}") from None
    return {name: sorted(functions) for name, functions in sorted(found.items())}

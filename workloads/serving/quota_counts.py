"""Counts of quotas in a file (SQLite), so that a restart of the server does not forget them.

The file never has less than what was used. While the server runs, the count of a day is written ahead: the file has it
before requests use it, so that a crash loses a part of the quota and gives nothing back. Counts of minutes are written
when the server stops. After a crash they are unknown, and their quotas are used up until the minute ends.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from workloads.errors import Diagnostic, UserError
from workloads.serving.keys import QUOTAS

FORMAT = 1
NUMBER_MAX = 2**62
_CREATE = """
CREATE TABLE counts (
    key TEXT NOT NULL, quota TEXT NOT NULL, number INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (key, quota)
) STRICT;
CREATE TABLE server (running INTEGER NOT NULL) STRICT;
INSERT INTO server VALUES (0);
"""


class Count(NamedTuple):
    """The use of one quota in one window."""

    key: str
    """The digest of the key."""
    quota: str
    number: int
    """Windows since 1970."""
    used: int


def _is_possible(count: Count) -> bool:
    return count.quota in QUOTAS and 0 <= count.number < NUMBER_MAX and 0 <= count.used < NUMBER_MAX


class UnwritableCounts(UserError):
    """Counts that the drive does not take; free space helps, and the unit starts the server again."""

    exit_status = 4


class QuotaCounts:
    """The file of one running server. It is locked, so that no two servers count in it."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            UserError: the file cannot be used: damaged, of another format, or of a server that runs.
            UnwritableCounts: nothing can be written.
        """
        self._path = path
        try:
            # the server is made in one thread, and may run in another
            self._file = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._unusable(error) from None
        self.found: tuple[Count, ...] = ()
        """The counts that were in the file."""
        self.was_running = False
        """Whether the server before has ended without a stop."""
        try:
            self.found, self.was_running = self._begin()
        except sqlite3.Error as error:
            self._file.close()
            raise self._unusable(error) from None
        except UserError:
            self._file.close()
            raise

    def _begin(self) -> tuple[tuple[Count, ...], bool]:
        """Return the counts of the file and its mark, and mark it as that of a running server."""
        self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._file.execute("PRAGMA synchronous = FULL")
        with closing(self._file.cursor()) as cursor:
            cursor.execute("BEGIN EXCLUSIVE")
            [format] = cursor.execute("PRAGMA user_version").fetchone()
            if format == 0 and not cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _CREATE.split(";"):
                    cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version = {FORMAT}")
            elif format != FORMAT:
                raise self._wrong(f"it has the format {format}", f"the format {FORMAT}")
            [state] = cursor.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise self._wrong("it is damaged", "counts of quotas")
            found = tuple(Count(*row) for row in cursor.execute("SELECT key, quota, number, count FROM counts"))
            if not all(map(_is_possible, found)):
                raise self._wrong("it has an impossible count", "counts of quotas")
            rows = cursor.execute("SELECT running FROM server").fetchall()
            if len(rows) != 1:
                raise self._wrong("it has no mark of its server", "counts of quotas")
            cursor.execute("UPDATE server SET running = 1")
            cursor.execute("COMMIT")
        return found, rows[0][0] != 0

    def write(self, counts: Iterable[Count]) -> None:
        """Write *counts*, on the drive when this returns; other counts stay.

        Raises:
            sqlite3.Error: nothing was written.
        """
        self._change("INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?)", list(counts), running=True)

    def close(self, counts: Iterable[Count]) -> None:
        """Write *counts* in place of all others, with the mark that the server has stopped, and close the file.

        Raises:
            sqlite3.Error: nothing was written: the next start takes this for a crash.
        """
        with closing(self._file):
            self._change("INSERT INTO counts VALUES (?, ?, ?, ?)", list(counts), running=False)

    def _change(self, insert: str, counts: list[Count], *, running: bool) -> None:
        self._file.execute("BEGIN")
        try:
            if not running:
                self._file.execute("DELETE FROM counts")
            self._file.executemany(insert, counts)
            self._file.execute("UPDATE server SET running = ?", [running])
            self._file.execute("COMMIT")
        except sqlite3.Error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise

    def _unusable(self, error: sqlite3.Error) -> UserError:
        """Return the exception for an *error* at the start."""
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            problem, help = "another server counts in this file", "Give each server a file of its own"
            return UserError(Diagnostic(str(self._path), problem, "a file that no other server uses", help))
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            problem, expected = f"the counts of quotas cannot be written: {error}", "a directory with free space"
            help = "Free some space, or correct quota_counts"
            return UnwritableCounts(Diagnostic(str(self._path), problem, expected, help))
        return self._wrong(f"it cannot be read: {error}", "counts of quotas")

    def _wrong(self, problem: str, expected: str) -> UserError:
        help = "Remove the file; each key then has its whole quotas again"
        return UserError(Diagnostic(str(self._path), problem, expected, help))

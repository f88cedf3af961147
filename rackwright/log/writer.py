"""The only writer of the operations log: it appends entries under a lock, and waits until they are on the drive."""

import contextlib
import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from rackwright.errors import ChangeRefused, Diagnostic, UserError, command
from rackwright.files import fsync_directory, write_atomic
from rackwright.log import actor
from rackwright.log.chain import Break, State, follow, resume, split
from rackwright.log.entry import FORMAT, EntryData, Event, Line, sign
from rackwright.log.keys import Signer, load_signer

VARIABLE = "RACKWRIGHT_LOG"
"""The environment variable with the log's directory."""
FILE = "operations.jsonl"
LOCK = "lock"
FRAGMENT_SHOWN = 4096
"""Characters of an incomplete line that the next entry repeats."""


class LogNotWritten(ChangeRefused):
    """An entry could not be written, so its change must not begin."""


def directory(project: Path | None, environment: Mapping[str, str]) -> Path:
    """Return the directory of the log: in the *project*, or without one among the files of this account."""
    if name := environment.get(VARIABLE):
        return Path(name).expanduser()
    if project is not None:
        return project / ".rackwright" / "log"
    base = environment.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "rackwright" / "log"


def open_log(project: Path | None, environment: Mapping[str, str]) -> "OperationsLog":
    """Return the log of the *project*, or of this account without one. Nothing is read or written yet."""
    return OperationsLog(directory(project, environment), project, environment)


class OperationsLog:
    """A log in a directory. Threads and processes may write at the same time."""

    def __init__(self, directory: Path, project: Path | None, environment: Mapping[str, str]) -> None:
        self.directory, self.path = directory, directory / FILE
        self._project, self._environment = project, environment
        self._guard = threading.Lock()
        self._state = State()
        self._end = 0
        """Bytes of the complete lines that the state covers."""
        self._inode = 0
        self.has_written = False
        """Whether this process has appended an entry."""

    @cached_property
    def _signer(self) -> Signer:
        return load_signer(self._environment, self._project)

    def append(self, event: Event, fields: EntryData) -> Line:
        """Append an entry with *fields*, and return it when it is on the drive. The first one starts the log.

        Raises:
            LogNotWritten: The entry is not in the log.
        """
        try:
            with self._guard, self._lock():
                return self._append(event, fields)
        except LogNotWritten:
            raise
        except OSError as error:
            raise self._error(f"the log cannot be written: {error.strerror or error}", _space_help(error)) from error
        except UserError as error:
            raise LogNotWritten(*error.diagnostics, self._unwritten("no entry was written")) from error

    def start_again(self, reason: str) -> Path:
        """Set the file aside, and start another log whose first entry has its digest; return the old file.

        Raises:
            ChangeRefused: There is no log.
            LogNotWritten: The new log cannot be started; the old one stays.
        """
        try:
            with self._guard, self._lock():
                content = self.path.read_bytes()
                texts, _ = split(content)
                digest = hashlib.sha256(content).hexdigest()
                aside = self.path.with_name(f"operations.{digest[:12]}.jsonl")
                replaces: dict[str, str | int] = {"file": aside.name, "sha256": digest, "lines": len(texts)}
                fields: EntryData = {"replaces": replaces, "reason": reason}
                first = self._line(State(), "log_started", fields)
                with contextlib.suppress(
                    FileExistsError
                ):  # an interrupted call has made it, and its name has its digest
                    os.link(self.path, aside)
                write_atomic(self.path, first.encode())
                return aside
        except FileNotFoundError:
            raise missing_log(self.path) from None
        except OSError as error:
            raise self._error(f"the log cannot be written: {error.strerror or error}", _space_help(error)) from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock of the log, which the kernel releases when this process dies."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o770)
        lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _append(self, event: Event, fields: EntryData) -> Line:
        signer = self._signer  # before the file: a key that cannot be used leaves no empty one
        new = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            fragment = self._catch_up(file)
            self._require_authorised(signer.key.fingerprint)
            lines = [*self._lines_before(fragment)]
            state = self._after(lines)
            line = self._line(state, event, fields)
            lines.append(line)
            self._write(file, b"".join(each.encode() for each in lines), fragment)
        finally:
            if not os.fstat(file).st_size:
                self.path.unlink()
            os.close(file)
        if new:
            fsync_directory(self.directory)
        self.has_written = True
        self._state = self._after(lines)
        self._end += sum(len(each.encode()) for each in lines)
        return line

    def _catch_up(self, file: int) -> bytes:
        """Read the lines that other writers have appended, and return the incomplete last line.

        Raises:
            LogNotWritten: The log is not whole at its end.
        """
        status = os.fstat(file)
        if status.st_ino != self._inode:  # the first entry of this process, or another log has started
            self._state, self._end, self._inode = State(), 0, status.st_ino
        if status.st_size < self._end:
            raise self._broken_log_error(
                Break("truncated", self._state.next_sequence, None, "while this process was writing")
            )
        content = _read(file, self._end, status.st_size)
        texts, rest = split(content)
        state: State | Break = self._state
        if self._end == 0:
            state = resume(content)
        else:
            for number, text in enumerate(texts, self._state.next_sequence + 1):
                following = follow(self._state, text, number)
                if isinstance(following, Break):
                    state = following
                    break
                state = self._state = following[1]
        if isinstance(state, Break):
            raise self._broken_log_error(state)
        self._state = state
        self._end += len(content) - len(rest)
        return rest

    def _lines_before(self, fragment: bytes) -> Iterator[Line]:
        """Yield the lines that have to stand before the next entry: the first one, and that about *fragment*."""
        state = self._state
        if not state.log:
            first = self._line(state, "log_started", {})
            state = self._after([first])
            yield first
        if fragment:
            shown = fragment[:FRAGMENT_SHOWN].decode(errors="backslashreplace")
            digest = hashlib.sha256(fragment).hexdigest()
            yield self._line(
                state, "recovered", {"fragment": {"start": shown, "sha256": digest, "bytes": len(fragment)}}
            )

    def _after(self, lines: list[Line]) -> State:
        state = self._state
        for line in lines:
            following = follow(state, line.encode()[:-1], state.next_sequence + 1)
            assert not isinstance(following, Break), following
            state = following[1]
        return state

    def _line(self, state: State, event: Event, fields: EntryData) -> Line:
        data: EntryData = {
            **fields,
            "format": FORMAT,
            "log": state.log or secrets.token_hex(16),
            "sequence": state.next_sequence,
            "previous": state.previous,
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "actor": actor.current(self._environment),
            "event": event,
        }
        if event == "log_started":
            data["key"] = self._signer.key.text
        return sign(data, self._signer)

    def _write(self, file: int, content: bytes, fragment: bytes) -> None:
        """Write *content* in the place of *fragment*, and wait for the drive; on failure the old end stays."""
        try:
            written = os.pwrite(file, content, self._end)
            while written < len(content):  # a disk that fills up takes a part, and then reports the error
                written += os.pwrite(file, content[written:], self._end + written)
            os.ftruncate(file, self._end + len(content))
            os.fsync(file)
        except OSError:
            os.pwrite(file, fragment, self._end)
            os.ftruncate(file, self._end + len(fragment))
            raise

    def _require_authorised(self, fingerprint: str) -> None:
        """Return if the key may write; every key may start a log.

        Raises:
            LogNotWritten: The log does not have the key, or has revoked it.
        """
        own = self._state.keys.get(fingerprint)
        if not self._state.log or (own and own.revoked_at is None):
            return
        problem = f"the key {fingerprint} {'was revoked' if own else 'may not write this log'}"
        add = command("rackwright log add-key {}", "KEY.pub")
        help = f"Have the holder of such a key run {add}, or name another key in RACKWRIGHT_LOG_KEY"
        raise self._error(problem, help, "an authorised key: `rackwright log verify` lists them")

    def _broken_log_error(self, broken: Break) -> LogNotWritten:
        again = command("rackwright log restart --reason {}", "WHY")
        help = f"Run `rackwright log verify`; {again} sets this log aside and starts another one"
        return self._error(f"the log is not whole: {broken}", help)

    def _error(self, problem: str, help: str, expected: str = "") -> LogNotWritten:
        return LogNotWritten(self._unwritten(problem, help, expected))

    def _unwritten(self, problem: str, help: str = "", expected: str = "") -> Diagnostic:
        note = "rackwright changes nothing that it cannot log"
        return Diagnostic(str(self.path), problem, expected, help, note, id="log-not-written")


def missing_log(path: Path) -> ChangeRefused:
    """Return the error for a log that does not exist."""
    help = f"Name its directory in {VARIABLE}; the first command that changes something starts a log"
    return ChangeRefused(Diagnostic(str(path), "there is no operations log", help=help))


def _read(file: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(file, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def _space_help(error: OSError) -> str:
    import errno

    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "Free space on that disk, and run the command again"
    return f"Correct the cause, or name another directory in {VARIABLE}"

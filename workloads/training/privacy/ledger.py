"""The ledger of a data set: every mechanism that has run on its rows, in a durable file beside them.

A ledger is a directory, which several data sets may share: ``NAME.jsonl`` has the total and the charges of a data set,
``NAME.rows`` and ``NAME.tokens`` the keyed digests of its rows and of their tokens, ``NAME.persons`` those of each row
with its person, and ``key`` the key of all digests. A charge is on the drive before its
steps begin. The file has sampling rate, noise and steps, which an accountant composes; it has no epsilon of a run.
"""

import fcntl
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from workloads.errors import Diagnostic, UserError
from workloads.foreign import InvalidData, parse_object, read_file, read_whole
from workloads.training.privacy.accountant import Mechanism
from workloads.training.privacy.charges import CHARGES, TOTAL, Charge, Total, check_mechanisms, describe

DIGEST_BYTES = 16
"""Bytes of the keyed digest of a row: two of 10**9 rows are the same with a probability of 10**-21."""
KEY_BYTES = 32
BYTES_MAX = 64 << 20
"""Maximum bytes of the charges: about 300,000 intervals."""
FORMAT = 1


class RowDigests(NamedTuple):
    """Keyed digests of the rows of a run."""

    rows: frozenset[bytes]
    tokens: frozenset[bytes]
    """Digests of the tokens of each row; empty for images."""
    pairs: frozenset[bytes]
    """Digest of each row, and of its tokens, followed by that of its person; empty with unit record."""


class Ledger:
    """The ledger of the data set *name* in *directory*."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.file, self._key_file = directory / f"{name}.jsonl", directory / "key"
        self._rows_file, self._persons_file = directory / f"{name}.rows", directory / f"{name}.persons"
        self._tokens_file = directory / f"{name}.tokens"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the directory; another process that charges waits.

        Raises:
            UserError: The directory cannot be written.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            problem = f"the ledger cannot be written: {error.strerror}"
            raise self._error(problem, "Make the directory writable for the account of the run") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def begin(self, total: Total, digests_by: Callable[[bytes], RowDigests]) -> None:
        """Make the ledger, or compare it with the declaration, and add the rows that it does not know.

        Args:
            digests_by: Function that returns the digests of the rows of a run by a key.

        Raises:
            UserError: The total differs from the one in the ledger, or rows belong to another data set or person.
        """
        with self.lock():
            key = self._key()
            digests = digests_by(key)
            self._check_others(digests)
            if not self.file.exists():
                self._check_no_charges_are_lost()
                _append(self.file, {"format": FORMAT, "data": self.name, **asdict(total)})
            elif (known := self._read(repair=True)[0]) != total:
                problem = f"the ledger has a total of {_describe(known)}, and the run declares {_describe(total)}"
                raise self._error(problem, "Declare the total of the ledger")
            known_rows = _read_digests(self._rows_file)
            known_pairs = self._check_persons(total, digests, known_rows)
            known_tokens = self._check_tokens(digests, known_rows)
            for file, own, known_digests in (
                (self._persons_file, digests.pairs, known_pairs),
                (self._tokens_file, digests.tokens, known_tokens),
                (self._rows_file, digests.rows, known_rows),  # the last one: the others are never missing beside it
            ):
                if own - known_digests:
                    _replace(file, b"".join(sorted(known_digests | own)))

    def charges(self) -> Sequence[Charge]:
        """Return all charges, without changing the files.

        Raises:
            UserError: The ledger is missing or damaged.
        """
        return self._read()[1]

    def total(self) -> Total:
        """Return the budget.

        Raises:
            UserError: The ledger is missing or damaged.
        """
        return self._read()[0]

    def rows(self) -> int:
        """Return the number of different rows."""
        return len(_read_digests(self._rows_file))

    def charge(self, decide: Callable[[Sequence[Charge]], Charge | None]) -> Charge | None:
        """Write the charge that *decide* makes of all charges so far to the drive, and return it.

        No other process charges in between. None is no charge.

        Raises:
            UserError: *decide* raises it, or the drive fails.
        """
        with self.lock():
            charges = self._read(repair=True)[1]
            charge = decide(charges)
            if charge is None:
                return None
            check_mechanisms([*charges, charge], self._place)
            try:
                _append(self.file, asdict(charge))
            except OSError as error:
                problem = f"the charge is not on the drive: {error.strerror}"
                raise self._error(problem, "Make room, and start the run again") from error
            return charge

    def _key(self) -> bytes:
        if not self._key_file.exists():
            if any(self.directory.glob("*.rows")):
                raise self._error("its key is missing, and its rows cannot be named without it", "Restore a backup")
            _replace(self._key_file, secrets.token_bytes(KEY_BYTES))
        key = read_file(self._key_file, KEY_BYTES)
        if len(key) != KEY_BYTES:
            raise self._error(f"its key has {len(key)} bytes instead of {KEY_BYTES}", "Restore a backup")
        return key

    def _check_tokens(self, digests: RowDigests, rows: set[bytes]) -> set[bytes]:
        """Return the known digests of tokens.

        Raises:
            UserError: They are missing beside *rows*, the known rows.
        """
        if rows and digests.tokens and not self._tokens_file.exists():
            raise self._error("the digests of the tokens of its rows are missing", "Restore a backup")
        return _read_digests(self._tokens_file)

    def _check_persons(self, total: Total, digests: RowDigests, rows: set[bytes]) -> set[bytes]:
        """Return the known pairs of row and person, and of its tokens and person.

        Raises:
            UserError: A row of *digests* has another person than before, or two.
        """
        known = _read_digests(self._persons_file, 2 * DIGEST_BYTES)
        if total.unit == "person" and rows - {each[:DIGEST_BYTES] for each in known}:
            raise self._error("the persons of its rows are missing", "Restore a backup")
        persons = Counter(each[:DIGEST_BYTES] for each in known | digests.pairs)
        contents = rows | digests.rows
        if redefined := {each for each, number in persons.items() if number > 1}:
            number = max(len(redefined & contents), len(redefined - contents))
            problem = f"{number} of {len(contents)} rows have another person than before, or two persons"
            raise self._error(problem, "Give each row its one person, as at the first start")
        return known

    def _check_others(self, digests: RowDigests) -> None:
        for file in sorted(self.directory.glob("*.rows")):
            if file == self._rows_file:
                continue
            tokens = _read_digests(file.with_suffix(".tokens"))
            if shared := max(len(digests.rows & _read_digests(file)), len(digests.tokens & tokens)):
                problem = f"{shared} of {len(digests.rows)} rows belong to data set {file.stem}, whose budget they have"
                raise self._error(problem, f"Write data: {file.stem}")

    def _check_no_charges_are_lost(self) -> None:
        if self._rows_file.exists():
            raise self._error("its charges are missing, and its rows are there", "Restore a backup")

    def _read(self, repair: bool = False) -> tuple[Total, list[Charge]]:
        """Return total and charges.

        Args:
            repair: Whether to remove an incomplete last line, whose steps have not begun. The caller has the lock.
        """
        try:
            content = read_file(self.file, BYTES_MAX)
        except OSError as error:
            raise self._error(f"it cannot be read: {error.strerror}", "Correct the path") from error
        except InvalidData as error:
            raise self._error(f"{error}", "Restore a backup") from error
        lines, end = content.split(b"\n"), content.rfind(b"\n") + 1
        try:
            values = [parse_object(line) for line in lines[:-1]]
            head = values[0]
            if head.pop("format") != FORMAT or head.pop("data") != self.name:
                raise ValueError("it belongs to another data set")
            total, charges = TOTAL.validate_json(json.dumps(head)), CHARGES.validate_json(json.dumps(values[1:]))
        except ValidationError as error:
            raise self._error(f"it is damaged: {describe(error)}", "Restore a backup") from error
        except (ValueError, KeyError, IndexError) as error:
            raise self._error(f"it is damaged: {error}", "Restore a backup") from error
        check_mechanisms(charges, self._place)
        if repair and end < len(content):
            os.truncate(self.file, end)  # the charge that follows syncs it
        return total, charges

    @property
    def _place(self) -> str:
        return f"ledger {self.directory}, data set {self.name}"

    def _error(self, problem: str, help: str) -> UserError:
        return UserError(Diagnostic(self._place, problem, help=help))


def new_charge(run: str, name: str, identity: str, code: str, first: int, mechanism: Mechanism) -> Charge:
    """Return the charge of an interval that begins now.

    Raises:
        UserError: The mechanism is none that a ledger keeps.
    """
    rate, noise, steps = mechanism
    try:
        return Charge(
            run=run, name=name, identity=identity, code=code, first=first, steps=steps, rate=rate, noise=noise,
            time=round(time.time(), 3),
        )  # fmt: skip
    except ValidationError as error:
        raise UserError(Diagnostic("privacy", f"the ledger takes no such charge: {describe(error)}")) from error


def _describe(total: Total) -> str:
    return f"epsilon {total.epsilon:g}, delta {total.delta:g} for each {total.unit}"


def _read_digests(file: Path, size: int = DIGEST_BYTES) -> set[bytes]:
    if not file.exists():
        return set()
    content = read_whole(file)
    return {content[n : n + size] for n in range(0, len(content), size)}


def _append(file: Path, values: dict[str, Any]) -> None:
    """Append one line, and return when the drive has it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        line = json.dumps(values).encode() + b"\n"
        if os.write(descriptor, line) != len(line):
            raise OSError(0, "the drive is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    _sync(file.parent)


def _replace(file: Path, content: bytes) -> None:
    """Write *file* whole, or leave the old one."""
    new = file.with_name(f".{file.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
    _sync(file.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

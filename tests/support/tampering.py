"""Ways to tamper with a log of ten entries, each with the broken place that its check has to name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from rackwright.log.chain import Sort
from rackwright.log.entry import Line, canonical, parse_line, sign
from rackwright.log.heads import Head
from rackwright.log.keys import load_signer
from tests.support.operations_log import VARIABLE


class Sample(NamedTuple):
    """A log of ten entries, and what a thief may have."""

    lines: list[bytes]
    own: Any
    foreign: Any
    """A key that the log does not have."""

    @property
    def content(self) -> bytes:
        return joined(self.lines)

    @property
    def heads(self) -> bytes:
        """The head of the last entry, as a second place has it."""
        return Head.of(parsed(self.lines[-1])).encode()


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def parsed(line: bytes) -> Line:
    found = parse_line(line)
    assert found is not None
    return found


def altered(line: bytes, **fields: object) -> Any:
    return {**parsed(line).data, **fields}


def sample_of(content: bytes, own: Path, foreign: Path) -> Sample:
    """Return the log with *content* and the keys in *own* and *foreign*."""
    signers = (load_signer({VARIABLE: str(key)}, None) for key in (own, foreign))
    return Sample(content.splitlines(), *signers)


def edit(sample: Sample) -> list[bytes]:
    return [*sample.lines[:4], sample.lines[4].replace(b'"time":"2', b'"time":"3'), *sample.lines[5:]]


def edit_with_hash(sample: Sample) -> list[bytes]:
    line = json.loads(sample.lines[4])
    entry = {**line["entry"], "command": "erase"}
    whole = sign(entry, sample.foreign)
    return [*sample.lines[:4], canonical({**line, "entry": entry, "hash": whole.hash}), *sample.lines[5:]]


def sign_again_with_a_foreign_key(sample: Sample) -> list[bytes]:
    line = sign(altered(sample.lines[4], command="erase"), sample.foreign)
    return [*sample.lines[:4], line.encode()[:-1], *sample.lines[5:]]


def delete(sample: Sample) -> list[bytes]:
    return [*sample.lines[:4], *sample.lines[5:]]


def delete_the_first(sample: Sample) -> list[bytes]:
    return sample.lines[1:]


def swap(sample: Sample) -> list[bytes]:
    return [*sample.lines[:4], sample.lines[5], sample.lines[4], *sample.lines[6:]]


def repeat(sample: Sample) -> list[bytes]:
    return [*sample.lines[:5], sample.lines[3], *sample.lines[5:]]


def insert_from_another_log(sample: Sample) -> list[bytes]:
    line = sign(altered(sample.lines[4], log="0" * 32), sample.own)
    return [*sample.lines[:4], line.encode()[:-1], *sample.lines[4:]]


def replace_by_another_history(sample: Sample) -> list[bytes]:
    line = sign(altered(sample.lines[4], previous="1" * 64), sample.own)
    return [*sample.lines[:4], line.encode()[:-1], *sample.lines[5:]]


def change_blanks(sample: Sample) -> list[bytes]:
    return [*sample.lines[:4], sample.lines[4].replace(b":", b": ", 1), *sample.lines[5:]]


def join_two_lines(sample: Sample) -> list[bytes]:
    return [*sample.lines[:4], sample.lines[4] + sample.lines[5], *sample.lines[6:]]


def rewrite_all_with_a_foreign_first_entry(sample: Sample) -> list[bytes]:
    first = sign(altered(sample.lines[0], key=sample.own.key.text), sample.foreign)
    return [first.encode()[:-1], *sample.lines[1:]]


WAYS: list[tuple[Callable[[Sample], list[bytes]], Sort, int, int | None]] = [
    (edit, "edited", 5, None),
    (edit_with_hash, "edited", 5, 4),
    (sign_again_with_a_foreign_key, "unknown_key", 5, 4),
    (delete, "deleted", 5, 5),
    (delete_the_first, "deleted", 1, 1),
    (swap, "swapped", 5, 5),
    (repeat, "inserted", 6, 3),
    (insert_from_another_log, "inserted", 5, 4),
    (replace_by_another_history, "forked", 5, 4),
    (change_blanks, "edited", 5, None),
    (join_two_lines, "edited", 5, None),
    (rewrite_all_with_a_foreign_first_entry, "unknown_key", 1, 0),
]
"""Each way with the sort, the line and the entry of the broken place."""

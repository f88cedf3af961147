"""Names of files that a bucket cannot hold, found before any file is read or sent."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from rackwright.errors import ChangeRefused, Diagnostic, quantity

KEY_MAX = 1024
"""Maximum bytes of a key. Source: Amazon S3, object keys."""
SHOWN = 5
"""Paths that a refusal names."""
_RENAME = "Rename it, or move it out of the directory"


def not_utf_8(where: str, paths: Sequence[str]) -> ChangeRefused:
    """Return the refusal of *paths* below *where*, which have names of other bytes than UTF-8, written with escapes."""
    return ChangeRefused(
        *(
            Diagnostic(f"{where}/{path}", "the name is not UTF-8", "a name in UTF-8, as keys are", _RENAME)
            for path in paths[:SHOWN]
        )
    )


def check_keys(where: str, prefix: str, paths: Iterable[str]) -> None:
    """Return if the keys of *paths*, which begin with *prefix*, are valid and stay apart in every store.

    Raises:
        ChangeRefused: A key is too long, or a store that takes a backslash for a slash has one object for two paths.
    """
    named = [*paths]
    if wrong := [*_long(where, prefix, named), *_collisions(where, named)]:
        more = quantity(len(wrong) - SHOWN, "further path") if len(wrong) > SHOWN else ""
        raise ChangeRefused(*wrong[:SHOWN], *([Diagnostic(where, f"the same is wrong with {more}")] if more else ()))


def _long(where: str, prefix: str, paths: Iterable[str]) -> Iterator[Diagnostic]:
    for path in paths:
        if (size := len(f"{prefix}{path}".encode())) > KEY_MAX:
            problem = f"the key would have {size} bytes"
            yield Diagnostic(f"{where}/{path}", problem, f"at most {KEY_MAX}", "Give it or its folders shorter names")


def _collisions(where: str, paths: Iterable[str]) -> Iterator[Diagnostic]:
    """Yield a refusal for each path whose key is that of another one, or below it, with slashes for backslashes."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        by_key[re.sub("[/\\\\]+", "/", path).strip("/")].append(path)
    for key, same in by_key.items():
        above = [by_key[parent][0] for parent in map(str, PurePosixPath(key).parents) if parent in by_key]
        if len(same) > 1 or (above and "\\" in f"{same[0]}{above[0]}"):
            other = above[0] if above else same[0]
            problem = f"some stores, such as SeaweedFS, have one object for this path and {other}"
            yield Diagnostic(f"{where}/{same[-1]}", problem, "names without backslashes", _RENAME)

"""The lists of facts that always have an entry on a running host: without it, the list was not read as a whole.

A list that lacks it is unknown. Otherwise everything in it would count as absent.
"""

from collections.abc import Callable, Mapping
from typing import Any


def _has_entry(value: Any) -> bool:
    return type(value) not in (dict, list) or len(value) > 0  # a table of lines has many, and is not walked


def _has_row(key: str, wanted: str) -> Callable[[Any], bool]:
    """Return a function that tells whether a list has a row with *wanted* under *key*."""
    return lambda rows: (
        not isinstance(rows, list) or any(isinstance(row, Mapping) and row.get(key) == wanted for row in rows)
    )


ALWAYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "links": ("the link lo, which each network namespace has", _has_row("name", "lo")),
    "mounts": ("the mount at /", _has_row("target", "/")),
    "users": ("an account, such as root", _has_entry),
    "groups": ("a group, such as root", _has_entry),
    "packages": ("a package", _has_entry),
    "units": ("a unit of systemd", _has_entry),
    "files": ("a file in /etc", _has_entry),
    "directories": ("the directory /etc", _has_entry),
    "sysctls": ("a setting of the kernel", _has_entry),
}
"""The entry that each list always has, and a function that tells whether the list has it, by the key of the list.

Drives are not in the table: a container has none. The probe reports none as unknown where the host itself starts from
a drive. All other lists are empty on some host: routes, sockets, arrays, modules, containers.
"""


def reason_incomplete(key: str, value: Any) -> str:
    """Return why the list under *key* is incomplete; empty for a complete list."""
    entry = ALWAYS.get(key)
    return "" if entry is None or entry[1](value) else f"the list is incomplete: it does not have {entry[0]}"

"""The files of accounts line by line: what programs read in different ways, and what gives rights without a member.

The facts contain no password hashes.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any, Dict, Iterator

from rackwright.facts.probe.observe import attempt, read
from rackwright.facts.probe.system import owner_name

PASSWD, GROUP, SHADOW, GSHADOW = "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"
FIELDS = {PASSWD: 7, GROUP: 4, SHADOW: 9, GSHADOW: 4}
"""Number of fields of a line of each file. Source: passwd(5), group(5), shadow(5), gshadow(5)."""
IDS = {PASSWD: (2, 3), GROUP: (2,)}
"""Indexes of the fields that are numbers; the first one is the id itself."""
DATES = ("last_changed", "minimum", "maximum", "warning", "inactive", "expires")
"""Fields of shadow(5) after the password."""
NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@-]*\$?")
"""Name of an account as login programs of Debian take it, those of directory services included."""
NUMBER = re.compile(r"0|[1-9]\d{0,9}")
DATE = re.compile(r"|-1|\d{1,9}")
LARGEST_ID = (1 << 32) - 2
MASTERS = {"users": "/usr/share/base-passwd/passwd.master", "groups": "/usr/share/base-passwd/group.master"}
"""The accounts and groups of each system of the distribution, as package base-passwd has them."""
SHOWN = 60
"""Letters of a name in the facts."""

Row = Dict[str, Any]


def account_files(root: str) -> Row:
    return {
        "odd_lines": attempt(lambda: [row for path in FIELDS for row in odd_lines(root, path)]),
        "duplicates": attempt(lambda: [row for path in FIELDS for row in duplicates(root, path)]),
        "group_rights": attempt(group_rights, root),
        "dates": attempt(dates, root),
        "homes": attempt(homes, root),
        "base_users": attempt(base_users, root),
    }


def rows(root: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line of a file of accounts; nothing for a file that is not there."""
    if not os.path.exists(root + path):
        return
    for number, line in enumerate(read(root + path).split("\n"), start=1):
        yield number, line.split(":")


def printable(text: str) -> str:
    """Return a name without control characters, cut to a bound."""
    return re.sub(r"[^\x20-\x7e]", "?", text)[:SHOWN]


def odd_lines(root: str, path: str) -> Iterator[Row]:
    """Yield the lines of another form than programs write, each with the reason."""
    for number, fields in rows(root, path):
        reason = oddity(path, fields)
        if reason:
            yield {"file": path, "line": number, "name": printable(fields[0]), "reason": reason}


def oddity(path: str, fields: list[str]) -> str:
    """Return why programs may read a line in different ways; empty for a plain line."""
    if len(fields) == 1 and not fields[0].strip():
        return ""
    if fields[0].startswith(("+", "-")):
        return "a line for NIS, which takes accounts from another machine where nsswitch.conf has compat"
    if fields[0].lstrip().startswith("#"):
        return "a comment, which no program writes"
    if len(fields) != FIELDS[path]:
        return f"{len(fields)} fields instead of {FIELDS[path]}"
    if not NAME.fullmatch(fields[0]):
        return "a name that programs read in different ways"
    if any(not NUMBER.fullmatch(fields[index]) or int(fields[index]) > LARGEST_ID for index in IDS.get(path, ())):
        return "an id that is no plain number"
    if path == SHADOW and not all(DATE.fullmatch(field) for field in fields[2:8]):
        return "a date that is no plain number"
    if path == PASSWD and not all(field.startswith("/") for field in fields[5:7] if field):
        return "a home or a shell without a whole path"
    if any(ord(letter) < 32 or ord(letter) > 126 for letter in "".join((fields[0], *fields[2:4], *fields[5:]))):
        return "letters outside ASCII"
    return ""


def duplicates(root: str, path: str) -> Iterator[Row]:
    """Yield each name and each id that several lines have."""
    names: dict[str, int] = {}
    ids: dict[str, list[str]] = {}
    for _, fields in rows(root, path):
        if len(fields) < 2:
            continue
        names[fields[0]] = names.get(fields[0], 0) + 1
        if path in IDS and len(fields) > 2:
            ids.setdefault(number_of(fields[2]), []).append(printable(fields[0]))
    yield from ({"file": path, "sort": "name", "key": printable(name)} for name, count in names.items() if count > 1)
    for number, users in ids.items():
        if len({*users}) > 1:
            yield {"file": path, "sort": "id", "key": printable(number), "names": users[:20]}


def number_of(text: str) -> str:
    """Return an id as programs read it: ``00`` and ``0`` are one id."""
    return str(int(text)) if text.isascii() and text.isdigit() else text


def password_kind(field: str) -> str:
    """Return ``none`` (no password is asked for), ``locked`` or ``set``, as for accounts."""
    if not field:
        return "none"
    return "locked" if field[0] in "!*" or field == "x" else "set"


def group_rights(root: str) -> Row:
    """Return the groups with a password, administrators, or other members in one of both files.

    A person who knows the password of a group joins it with newgrp, and its administrators give it members.
    Source: gpasswd(1).
    """
    groups = {fields[0]: fields for _, fields in rows(root, GROUP) if len(fields) == FIELDS[GROUP]}
    found: Row = {}
    for _, fields in rows(root, GSHADOW):
        if len(fields) != FIELDS[GSHADOW]:
            continue
        name, password, administrators, members = fields
        own = words(groups[name][3]) if name in groups else []
        row: Row = {}
        if password_kind(password) == "set":
            row["password"] = "set"  # noqa: S105 - the kind of password, not one
        if words(administrators):
            row["administrators"] = words(administrators)
        if words(members) != own:
            row["other_members"] = sorted({*words(members)} ^ {*own})
        if name not in groups:
            row["without_group"] = True
        if row:
            found[printable(name)] = row
    for name, fields in groups.items():
        if fields[1] not in ("x", "*", "!"):
            found.setdefault(printable(name), {})["password"] = "set" if fields[1] else "none"
    return found


def words(text: str) -> list[str]:
    return sorted({printable(word) for word in text.split(",") if word})


def dates(root: str) -> Row:
    """Return the dates of each account that end or limit its logins; accounts without any have none."""
    found: Row = {}
    for _, fields in rows(root, SHADOW):
        if len(fields) != FIELDS[SHADOW]:
            continue
        values = {key: int(field) for key, field in zip(DATES, fields[2:8]) if DATE.fullmatch(field) and field}
        limits: Row = {}
        if values.get("last_changed") == 0:
            limits["last_changed"] = 0
        if 0 <= values.get("maximum", -1) < 10_000:
            limits["maximum"] = values["maximum"]
        for key in ("inactive", "expires"):
            if values.get(key, -1) >= 0:
                limits[key] = values[key]
        if limits:
            found.setdefault(printable(fields[0]), limits)
    return found


def homes(root: str) -> Row:
    """Return the owner and the mode of each home directory that exists, by account."""
    found: Row = {}
    for _, fields in rows(root, PASSWD):
        if len(fields) == FIELDS[PASSWD] and fields[0] not in found:
            row = attempt(home, root, fields[5])
            if row is not None:
                found[printable(fields[0])] = row
    return found


def home(root: str, path: str) -> Row | None:
    """Return owner, mode and sort of a home directory; None for one that does not exist."""
    try:
        status = os.lstat(root + path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "file"
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    return {"owner": owner_name(status.st_uid, status.st_gid), "uid": status.st_uid, "mode": mode, "sort": kind}


def base_users(root: str) -> Row:
    """Return id, group, home and shell of the accounts that each system of the distribution has."""
    found: Row = {}
    for _, fields in rows(root, MASTERS["users"]):
        if len(fields) == FIELDS[PASSWD]:
            found[fields[0]] = {"uid": int(fields[2]), "gid": int(fields[3]), "home": fields[5], "shell": fields[6]}
    return found

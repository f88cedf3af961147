"""Users and groups of the host's own files. What a directory service adds is not looked for, nor is any hash kept."""

from __future__ import annotations

import re
import time
from typing import Any

from rackwright.facts.probe.look import Unreadable, attempt, known, read

# Lines of another form are none to glibc either, and those that begin with + or - belong to NIS.
USER = re.compile(r"([^:+#-][^:]*):([^:]*):(\d+):(\d+):[^:]*:([^:]*):([^:]*)")
GROUP = re.compile(r"([^:+#-][^:]*):[^:]*:(\d+):([^:]*)")
DAY = 86400
EXPIRES = 7
"""The place of the account's end in a line of shadow(5)."""


def users(root: str) -> dict[str, Any]:
    shadow, listed = attempt(shadow_lines, root), attempt(group_lines, root)
    return {
        name: {
            "uid": int(uid),
            "gid": int(gid),
            "home": home,
            "shell": shell,
            "password": attempt(password, name, field, shadow),
            "expires": attempt(expires, name, shadow),
            "groups": attempt(groups_of, name, gid, listed),
        }
        for name, field, uid, gid, home, shell in user_lines(root).values()
    }


def groups(root: str) -> dict[str, Any]:
    users = attempt(user_lines, root)
    return {
        name: {"gid": int(gid), "members": attempt(members_of, gid, members, users)}
        for name, gid, members in group_lines(root).values()
    }


def user_lines(root: str) -> dict[str, tuple[str, ...]]:
    return first_of_each(USER, read(f"{root}/etc/passwd"))


def group_lines(root: str) -> dict[str, tuple[str, ...]]:
    return first_of_each(GROUP, read(f"{root}/etc/group"))


def first_of_each(form: re.Pattern[str], text: str) -> dict[str, tuple[str, ...]]:
    """Return the fields of the lines of this form by name; of several with one name the first counts."""
    found: dict[str, tuple[str, ...]] = {}
    for line in filter(None, map(form.fullmatch, text.splitlines())):
        found.setdefault(line[1], line.groups())
    return found


def shadow_lines(root: str) -> dict[str, list[str]]:
    lines = (line.split(":") for line in read(f"{root}/etc/shadow").splitlines())
    return {fields[0]: fields for fields in reversed([fields for fields in lines if len(fields) > EXPIRES])}


def password(name: str, field: str, shadow: Any) -> str:
    """Return whether there is one: ``none`` lets in without asking, ``locked`` lets no password in."""
    if field == "x":
        if name not in known(shadow):
            raise Unreadable(f"/etc/shadow has no line for {name}")
        field = shadow[name][1]
    if not field:
        return "none"
    return "locked" if field[0] in "!*" else "set"


def expires(name: str, shadow: Any) -> str | None:
    """Return the day on which the account ends, None where it does not."""
    fields = known(shadow).get(name)
    if not fields or not fields[EXPIRES] or int(fields[EXPIRES]) < 0:
        return None
    return time.strftime("%Y-%m-%d", time.gmtime(int(fields[EXPIRES]) * DAY))


def groups_of(name: str, gid: str, groups: Any) -> list[str]:
    return sorted(group for group, own, members in known(groups).values() if gid == own or name in members.split(","))


def members_of(gid: str, members: str, users: Any) -> list[str]:
    """Return who is listed in the group and whose primary group it is."""
    primary = (name for name, _, _, own, _, _ in known(users).values() if own == gid)
    return sorted({*primary, *filter(None, members.split(","))})

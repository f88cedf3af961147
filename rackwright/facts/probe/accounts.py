"""Users and groups of the host's own files, and the keys by which sshd lets each in.

What a directory service adds is not looked for, nor is any hash of a password kept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import time
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, known, read, read_untrusted, tool

# Lines of another form are none to glibc either, and those that begin with + or - belong to NIS.
USER = re.compile(r"([^:+#-][^:]*):([^:]*):(\d+):(\d+):[^:]*:([^:]*):([^:]*)")
GROUP = re.compile(r"([^:+#-][^:]*):[^:]*:(\d+):([^:]*)")
KEY = re.compile(r"(?:^|[\s,\"])(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+[ \t]+([A-Za-z0-9+/]+={0,2})(?=\s|$)")
"""A public key in a line of authorized_keys, behind its options if it has any. Source: sshd(8)."""
NO_LOGIN = ("nologin", "false", "sync", "shutdown", "halt")
"""Names of shells that allow nothing; sshd starts the account's shell for whatever is asked."""
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
            raise ReadError(f"/etc/shadow has no line for {name}")
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


def login_keys(root: str) -> dict[str, Any]:
    """Return for each account with a shell the files that sshd reads its keys from, with their keys' fingerprints."""
    return {
        name: attempt(keys_of, root, name, uid, home)
        for name, _, uid, _, home, shell in user_lines(root).values()
        if os.path.basename(shell) not in NO_LOGIN
    }


def keys_of(root: str, name: str, uid: str, home: str) -> dict[str, Any]:
    said = tool("sshd", "-T", "-C", f"user={name},host=localhost,addr=127.0.0.1")
    told = dict(line.partition(" ")[::2] for line in said.splitlines())
    if "authorizedkeysfile" not in told or "authorizedkeyscommand" not in told or not said.endswith("\n"):
        raise ReadError("sshd -T does not say where it looks for keys, or not all of it")
    paths = [key_path(each, name, uid, home) for each in told["authorizedkeysfile"].split() if each != "none"]
    return {
        "command": told["authorizedkeyscommand"],
        "files": {path: attempt(keys_in, root, path, home) for path in paths},
        "noted": attempt(keys_in, root, f"{NOTED}{name}", "/etc/ssh"),
    }


NOTED = "/etc/ssh/rackwright_keys_of_"
"""Then comes the account: where role access keeps the keys that a login had when the role was first played."""


def key_path(pattern: str, name: str, uid: str, home: str) -> str:
    """Return the path that a word of AuthorizedKeysFile stands for. Source: sshd_config(5), TOKENS."""
    tokens = {"%%": "%", "%h": home, "%u": name, "%U": uid}
    path = re.sub("%.", lambda found: tokens.get(found[0], found[0]), pattern)
    return path if path.startswith("/") else f"{home}/{path}"


def keys_in(root: str, path: str, home: str) -> list[str] | None:
    """Return the fingerprints of the keys in *path*, and the lines that hold none; None where there is no file.

    The account may write below its *home*, so no link is followed there.
    """
    above = os.path.dirname(home) if path.startswith(f"{home}/") else "/"
    try:
        text = read_untrusted(root + above, os.path.relpath(path, above)).decode(errors="replace")
    except FileNotFoundError:
        return None
    found = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            found |= {fingerprint(key) for key in KEY.findall(line)} or {f"line {number} without a key"}
    return sorted(found)


def fingerprint(key: str) -> str:
    """Return what ssh-keygen -l prints of a public key in base64."""
    try:
        blob = base64.b64decode(key + "=" * (-len(key) % 4))
    except (binascii.Error, ValueError):
        return "a key that is no base64"
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"

"""Users and groups in the host's own files, and the keys that sshd accepts for each user.

Accounts of a directory service are not read. The facts contain no password hashes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import time
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, read, read_untrusted, run_tool, unwrap

# glibc ignores lines of another form too. Lines that begin with + or - belong to NIS.
USER = re.compile(r"([^:+#-][^:]*):([^:]*):(\d+):(\d+):[^:]*:([^:]*):([^:]*)")
GROUP = re.compile(r"([^:+#-][^:]*):[^:]*:(\d+):([^:]*)")
KEY = re.compile(r"(?:^|[\s,\"])(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]+[ \t]+([A-Za-z0-9+/]+={0,2})(?=\s|$)")
"""A public key in a line of authorized_keys, after optional options. Source: sshd(8)."""
NO_LOGIN = ("nologin", "false", "sync", "shutdown", "halt")
"""Names of shells that allow no login; sshd runs each request in the account's shell."""
DAY = 86400
EXPIRES_FIELD = 7
"""Index of the expiry date in a line of shadow(5)."""


def users(root: str) -> dict[str, Any]:
    shadow, groups = attempt(shadow_lines, root), attempt(group_lines, root)
    return {
        name: {
            "uid": int(uid),
            "gid": int(gid),
            "home": home,
            "shell": shell,
            "password": attempt(password, name, field, shadow),
            "expires": attempt(expires, name, shadow),
            "groups": attempt(groups_of, name, gid, groups),
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


def first_of_each(pattern: re.Pattern[str], text: str) -> dict[str, tuple[str, ...]]:
    """Return the fields of all lines that match *pattern*, by name; the first of several lines with one name counts."""
    fields: dict[str, tuple[str, ...]] = {}
    for line in filter(None, map(pattern.fullmatch, text.splitlines())):
        fields.setdefault(line[1], line.groups())
    return fields


def shadow_lines(root: str) -> dict[str, list[str]]:
    rows = (line.split(":") for line in read(f"{root}/etc/shadow").splitlines())
    return {fields[0]: fields for fields in reversed([fields for fields in rows if len(fields) > EXPIRES_FIELD])}


def password(name: str, field: str, shadow: Any) -> str:
    """Return the kind of password: ``none`` (login without one), ``locked`` (no password is accepted) or ``set``."""
    if field == "x":
        if name not in unwrap(shadow):
            raise ReadError(f"/etc/shadow has no line for {name}")
        field = shadow[name][1]
    if not field:
        return "none"
    return "locked" if field[0] in "!*" else "set"


def expires(name: str, shadow: Any) -> str | None:
    """Return the day on which the account expires; None for no expiry."""
    fields = unwrap(shadow).get(name)
    if not fields or not fields[EXPIRES_FIELD] or int(fields[EXPIRES_FIELD]) < 0:
        return None
    return time.strftime("%Y-%m-%d", time.gmtime(int(fields[EXPIRES_FIELD]) * DAY))


def groups_of(name: str, gid: str, groups: Any) -> list[str]:
    return sorted(
        group for group, group_gid, members in unwrap(groups).values() if gid == group_gid or name in members.split(",")
    )


def members_of(gid: str, members: str, users: Any) -> list[str]:
    """Return the listed members of a group and the users whose primary group it is."""
    primary = (name for name, _, _, user_gid, _, _ in unwrap(users).values() if user_gid == gid)
    return sorted({*primary, *filter(None, members.split(","))})


def login_keys(root: str) -> dict[str, Any]:
    """Return for each account with a shell the files from which sshd reads keys, with the fingerprints of the keys.

    An account without a shell is listed if it has such a file: with a key, sshd forwards ports for it.
    """
    return {
        name: attempt(keys_of, root, name, uid, home)
        for name, _, uid, _, home, shell in user_lines(root).values()
        if os.path.basename(shell) not in NO_LOGIN or has_key_file(root, name, home)
    }


def has_key_file(root: str, name: str, home: str) -> bool:
    """Return whether an account has a file of keys in one of the usual places."""
    places = (f"{home}/.ssh/authorized_keys", f"{home}/.ssh/authorized_keys2", f"/etc/ssh/authorized_keys.d/{name}")
    return any(os.path.lexists(root + place) for place in places)


def keys_of(root: str, name: str, uid: str, home: str) -> dict[str, Any]:
    output = run_tool("sshd", "-T", "-C", f"user={name},host=localhost,addr=127.0.0.1")
    settings = dict(line.partition(" ")[::2] for line in output.splitlines())
    if "authorizedkeysfile" not in settings or "authorizedkeyscommand" not in settings or not output.endswith("\n"):
        raise ReadError("sshd -T prints no complete answer about its key files")
    paths = [
        key_path(pattern, name, uid, home) for pattern in settings["authorizedkeysfile"].split() if pattern != "none"
    ]
    return {
        "command": settings["authorizedkeyscommand"],
        "files": {path: attempt(keys_in, root, path, home) for path in paths},
        "noted": attempt(keys_in, root, f"{ORIGINAL_KEYS}{name}", "/etc/ssh"),
        "authorities": attempt(keys_of_authorities, root, settings.get("trustedusercakeys", "none")),
        "principals": attempt(lambda: principals(root, setting(settings, "principalsfile"), name, uid, home)),
        "principals_command": attempt(setting, settings, "principalscommand"),
        "methods": [way for way in settings.get("authenticationmethods", "any").split() if way != "any"],
    }


def setting(settings: dict[str, str], name: str) -> str:
    """Return the setting ``authorized`` *name* of sshd.

    Raises:
        ReadError: sshd did not print it.
    """
    if f"authorized{name}" not in settings:
        raise ReadError(f"sshd -T prints no authorized{name}")
    return settings[f"authorized{name}"]


def principals(root: str, pattern: str, name: str, uid: str, home: str) -> dict[str, list[str]]:
    """Return the names that certificates may have for the account, by the file with them; empty without such a file."""
    path = key_path(pattern, name, uid, home)
    if pattern == "none":
        return {}
    folder = os.path.dirname(home) if path.startswith(f"{home}/") else "/"
    try:
        text = read_untrusted(root + folder, os.path.relpath(path, folder)).decode(errors="replace")
    except FileNotFoundError:
        return {path: []}
    lines = (line.split("#", 1)[0].split() for line in text.splitlines())
    return {path: sorted({words[-1] for words in lines if words})}  # options stand before the name


def keys_of_authorities(root: str, path: str) -> dict[str, list[str]]:
    """Return the fingerprints in the file of the authorities whose certificates sshd accepts, by its path."""
    return {} if path == "none" else {path: keys_in(root, path, "/etc/ssh") or []}


ORIGINAL_KEYS = "/etc/ssh/rackwright_keys_of_"
"""Path, up to the account, where role access stores the keys that a login had before the role was first applied."""


def key_path(pattern: str, name: str, uid: str, home: str) -> str:
    """Return the path that one *pattern* of AuthorizedKeysFile means. Source: sshd_config(5), TOKENS."""
    tokens = {"%%": "%", "%h": home, "%u": name, "%U": uid}
    path = re.sub("%.", lambda token: tokens.get(token[0], token[0]), pattern)
    return path if path.startswith("/") else f"{home}/{path}"


def keys_in(root: str, path: str, home: str) -> list[str] | None:
    """Return the fingerprints of the keys in *path*, and the lines without a key; None if there is no such file.

    No link is followed below *home*, because the account can create links there.
    """
    folder = os.path.dirname(home) if path.startswith(f"{home}/") else "/"
    try:
        text = read_untrusted(root + folder, os.path.relpath(path, folder)).decode(errors="replace")
    except FileNotFoundError:
        return None
    keys = set()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            keys |= {fingerprint(key) for key in KEY.findall(line)} or {f"line {number} without a key"}
    return sorted(keys)


def fingerprint(key: str) -> str:
    """Return the fingerprint of a public key in base64, as ssh-keygen -l prints it."""
    try:
        blob = base64.b64decode(key + "=" * (-len(key) % 4))
    except (binascii.Error, ValueError):
        return "a key that is no base64"
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"

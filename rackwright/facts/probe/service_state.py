"""The state of the services that roles install: their directories, and the files that the host makes for them itself.

Services write into their directories at any moment, so these have no content that could be declared. Their owner,
their mode and who may write there can.
"""

from __future__ import annotations

import calendar
import os
import re
import stat
import time
from typing import Any, Iterator

from rackwright.facts.probe.observe import ReadError, attempt, listing, read, run_tool
from rackwright.facts.probe.system import owner_name

UNITS, WRITTEN = "/etc/systemd/system", ": written by rackwright"
"""Directory of the units, and the mark in the first line of ours."""
WORKLOADS = ("server-", "watch-", "training-")
"""Beginnings of the names of the units of servers and runs, whose directories their own kinds compare."""
ETC = "/etc/rackwright"
LISTS = "system.posix_acl_"
"""Beginning of the names of the attributes with access control lists. Source: acl(5)."""
MOST_NAMES = 20
PUBLIC = r"-----BEGIN PUBLIC KEY-----\n.+\n-----END PUBLIC KEY-----\n"
PRINTED = re.compile(
    rf"notAfter=([^\n]+) GMT\n((?:No extensions|X509v3 Subject Alternative Name)[^\n]*\n(?: +[^\n]*\n)*|)({PUBLIC})",
    re.DOTALL,
)
"""The end, the names and the public key of a certificate, as openssl prints them."""
LINE = re.compile(r"([A-Za-z_]\w*)=[\w./:@+-]*")
"""A variable with a plain value, which has no second line."""


def state_directories(root: str) -> dict[str, Any]:
    """Return owner, mode and access of the directories that the units of roles may write to, by path."""
    paths = sorted({path for name in listing(root + UNITS, "*.service") for path in writable_paths(root, name)})
    return {path: attempt(directory, root, path) for path in paths if os.path.lexists(root + path)}


def writable_paths(root: str, name: str) -> Iterator[str]:
    """Yield the directories that a unit of a role has for its state, and those that it may write to besides."""
    path = f"{root}{UNITS}/{name}"
    if name.startswith(WORKLOADS) or os.path.islink(path):
        return
    lines = read(path).splitlines()
    if not lines or WRITTEN not in lines[0]:
        return
    for line in lines:
        key, _, value = line.partition("=")
        if key == "StateDirectory":
            yield from (f"/var/lib/{word}" for word in value.split())
        elif key == "ReadWritePaths":
            yield from (word.lstrip("-+") for word in value.split())


def directory(root: str, path: str) -> dict[str, Any]:
    """Return the access to a directory: `open` has the names in it that another account may change."""
    status = os.lstat(root + path)
    if stat.S_ISLNK(status.st_mode):
        return {"mode": "link", "owner": owner_name(status.st_uid, status.st_gid), "access_list": False, "open": []}
    names = sorted(
        entry.name
        for entry in os.scandir(root + path)
        if not entry.is_symlink() and is_open(entry.path, entry.stat(follow_symlinks=False), status.st_uid)
    )
    return {
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": owner_name(status.st_uid, status.st_gid),
        "access_list": has_list(root + path),
        "open": names[:MOST_NAMES],
    }


def is_open(path: str, status: os.stat_result, owner: int) -> bool:
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or status.st_uid not in (0, owner) or has_list(path)


def has_list(path: str) -> bool:
    try:
        return any(name.startswith(LISTS) for name in os.listxattr(path, follow_symlinks=False))
    except OSError:  # a filesystem without attributes, or a file that has just gone
        return False


def variables(root: str) -> dict[str, Any]:
    """Return the names in the files with variables of services, by path; values never leave the host."""
    roles = [role for role in listing(root + ETC) if os.path.isdir(f"{root}{ETC}/{role}")]
    paths = [f"{ETC}/{role}/{name}" for role in roles for name in listing(f"{root}{ETC}/{role}", "*.env")]
    return {path: attempt(names_in, root + path) for path in paths}


def names_in(path: str) -> list[str]:
    """Return the sorted names of the variables in a file; a line of another form is returned as `another line`."""
    lines = [line for line in read(path).splitlines() if line.strip() and not line.startswith("#")]
    matches = [LINE.fullmatch(line) for line in lines]
    return sorted({match[1] if match else "another line" for match in matches})


def service_certificates(root: str) -> dict[str, Any]:
    """Return names, end, and whether the key beside it belongs to it, of each certificate of a service, by path."""
    paths = [f"{ETC}/{role}/tls.crt" for role in listing(root + ETC)]
    return {path: attempt(certificate, root + path) for path in paths if os.path.isfile(root + path)}


def certificate(path: str) -> dict[str, Any]:
    """Return the content of a certificate.

    Raises:
        ReadError: openssl does not read it.
    """
    text = run_tool("openssl", "x509", "-in", path, "-noout", "-enddate", "-ext", "subjectAltName", "-pubkey")
    printed = PRINTED.fullmatch(text)
    if printed is None:
        raise ReadError("openssl does not print its end, names and public key")
    end, extension, public = printed.groups()
    names = re.findall(r"(?:DNS|IP Address):([^\s,]+)", extension)
    return {
        "names": sorted(names)[: 5 * MOST_NAMES],
        "not_after": calendar.timegm(time.strptime(end, "%b %d %H:%M:%S %Y")),
        "has_key": has_key(path, public),
    }


def has_key(path: str, public: str) -> bool:
    """Return whether the key beside a certificate is that of its *public* key."""
    key = f"{path[: -len('.crt')]}.key"
    if not os.path.isfile(key):
        return False
    text = run_tool("openssl", "pkey", "-in", key, "-passin", "pass:", "-pubout")
    if not re.fullmatch(PUBLIC, text, re.DOTALL):
        raise ReadError("openssl prints no public key of the key beside it")
    return text == public

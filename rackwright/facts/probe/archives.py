"""The archives from which apt installs packages, and the keys that it trusts."""

from __future__ import annotations

import gzip
import os
import re
from typing import Any

from rackwright.facts.probe.observe import ReadError, attempt, listing, read
from rackwright.facts.probe.system import release

SOURCES = (
    ("/etc/apt", "sources.list"),
    ("/etc/apt/sources.list.d", "*.list"),
    ("/etc/apt/sources.list.d", "*.sources"),
)
LINE = re.compile(r"^\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)", re.M)
"""A line of a .list file: options, URI, suite. Source: sources.list(5)."""
LISTS = "/var/lib/apt/lists"
PACKAGE = b"Package: "
YES = ("yes", "true", "with", "on", "enable")
"""Words that apt takes for yes. Source: apt, StringToBool."""


def archives(root: str) -> list[dict[str, Any]]:
    """Return every enabled archive with its file, its URI without a password, its key file, and whether it is checked.

    The key file is None if any key that apt trusts will do, and ``inline`` for a key in the file itself.
    """
    rows: list[dict[str, Any]] = []
    for folder, pattern in SOURCES:
        for name in listing(root + folder, pattern):
            found = attempt(entries, root, f"{folder}/{name}")
            rows += found if isinstance(found, list) else [{**dict.fromkeys(KEYS, found), "path": f"{folder}/{name}"}]
    return rows


KEYS = ("uri", "suite", "key", "unchecked")


def entries(root: str, path: str) -> list[dict[str, Any]]:
    """Return the enabled archives that one file lists."""
    text = read(root + path)
    rows = []
    if path.endswith(".sources"):
        for paragraph in re.split(r"\n\s*\n", text):
            fields = deb822(paragraph)
            if fields.get("enabled", "yes").lower() not in YES:
                continue
            for uri in fields.get("uris", "").split():
                for suite in fields.get("suites", "").split():
                    rows.append(row(path, uri, suite, fields.get("signed-by"), fields.get("trusted")))
    else:
        for options, uri, suite in LINE.findall(text):
            values = dict(word.split("=", 1) for word in options.split() if "=" in word)
            rows.append(row(path, uri, suite, values.get("signed-by"), values.get("trusted")))
    return rows


def deb822(paragraph: str) -> dict[str, str]:
    """Return the fields of a paragraph by their names in lower case; other lines of a value follow its first one."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            fields[name] = f"{fields.get(name, '')}\n{line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            name = name.lower()
            fields[name] = value.strip()
    return fields


def row(path: str, uri: str, suite: str, key: str | None, trusted: str | None) -> dict[str, Any]:
    key = None if not key else "inline" if "BEGIN PGP" in key else key.split(",")[0].strip()
    return {
        "path": path,
        "uri": re.sub(r"//[^/@]*@", "//***@", uri),
        "suite": suite,
        "key": key if key is None or key == "inline" or key.startswith("/") else f"fingerprint {key}",
        "unchecked": (trusted or "").lower() in YES,
    }


def foreign_packages(root: str, installed: dict[str, str]) -> dict[str, str]:
    """Return the installed packages that no list of the distribution has, with the origin of a list that has them.

    An empty origin means that no list has the package: a person installed it from a file, or its archive is gone.

    Args:
        installed: The versions of the installed packages, by name.

    Raises:
        ReadError: the host has no readable list of its distribution.
    """
    distribution = str(release(root)["id"])
    names = {name.partition(":")[0] for name in installed}
    by_origin: dict[str, set[str]] = {}
    for name in listing(root + LISTS, "*_Packages*"):
        origin = origin_of(root, name)
        by_origin.setdefault(origin, set()).update(names & packages_in(f"{root}{LISTS}/{name}"))
    own = {name for origin, found in by_origin.items() if origin.lower() == distribution for name in found}
    if not own:
        raise ReadError(f"{LISTS} has no list of {distribution}'s packages")
    return {
        name: next((origin for origin, found in sorted(by_origin.items()) if name in found), "")
        for name in sorted(names - own)
    }


def packages_in(path: str) -> set[str]:
    """Return the names in a list of packages.

    Raises:
        ReadError: the list is compressed in a way that Python's standard library does not read.
    """
    if path.endswith(".gz"):
        with gzip.open(path) as file:
            content = file.read()
    elif path.endswith("_Packages"):
        with open(path, "rb", buffering=0) as plain:
            content = plain.read()
    else:
        raise ReadError(f"{path} is compressed, and the probe reads only plain lists and gzip")
    pieces = (b"\n" + content).split(b"\n" + PACKAGE)[1:]
    return {piece.partition(b"\n")[0].decode(errors="replace") for piece in pieces}


def origin_of(root: str, name: str) -> str:
    """Return the origin that the release of a list names; empty for an archive without one."""
    prefix = re.sub(r"_[^_]+_binary-[^_]+_Packages.*$", "", name)
    for path in (f"{root}{LISTS}/{prefix}_InRelease", f"{root}{LISTS}/{prefix}_Release"):
        if os.path.exists(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                match = re.search(r"^Origin: (.+)$", file.read(2000), re.M)
                return match[1].strip() if match else ""
    return ""

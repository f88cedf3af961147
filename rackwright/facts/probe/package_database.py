"""The database of dpkg itself: what a person changed in it after the installation of a package.

The kernel alone sets ctime, at every change of a file. dpkg writes all files about a package at one time.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Iterator

from rackwright.facts.probe.dpkg_lists import LIST_BYTES
from rackwright.facts.probe.file_integrity import INSTALLED_NS
from rackwright.facts.probe.generated_files import ALTERNATIVES, CHOSEN
from rackwright.facts.probe.observe import ReadError, attempt, listing, read
from rackwright.facts.probe.packaged import DPKG_INFO
from rackwright.facts.probe.sources import content
from rackwright.facts.probe.system import DPKG_STATUS, dpkg_status, field

DIVERSIONS, OVERRIDES = "/var/lib/dpkg/diversions", "/var/lib/dpkg/statoverride"
LISTED, DIGESTS = "list", "md5sums"
SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")
"""Programs that run as root at the next change of the package. Source: Debian Policy 6."""
OWN_FILES = frozenset((*SCRIPTS, LISTED, DIGESTS, "conffiles", "shlibs", "symbols", "templates", "triggers"))
"""Files about one package, by the end of their names. Source: deb-control(5) and others."""
OF_DPKG = frozenset(("format",))
"""Files about no package."""
WANTED = frozenset(("install ok installed", "hold ok installed"))
NOT_THERE = ("not-installed", "config-files")
"""States of a package without files: that it is gone, or only its settings are there."""
LOCAL = ":"
"""Name in the place of the package of a diversion that a person made. Source: dpkg-divert(1)."""
ROWS = 500
"""Largest number of rows of each part."""
Row = Dict[str, Any]


def package_database(root: str) -> Row:
    """Return what in dpkg's database is not as packages and dpkg wrote it.

    Raises:
        ReadError: the host has no database of dpkg.
    """
    status = dpkg_status(root + DPKG_STATUS)
    states = dict(package_states(status))
    return {
        "altered_files": attempt(lambda: dict(first_rows(changed_files(root, states)))),
        "odd_states": {name: state for name, state in states.items() if not is_plain(state)},
        "diversions": attempt(lambda: [*diversions(root, states)][:ROWS]),
        "rights": attempt(lambda: dict(first_rows(overrides(root, states)))),
        "choices": attempt(lambda: dict(first_rows(choices(root)))),
    }


def first_rows(rows: Iterator[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return sorted(rows)[:ROWS]


def package_states(status: str) -> Iterator[tuple[str, str]]:
    """Yield each package with its state; one of several architectures also by its name with the architecture."""
    for paragraph in status.split("\n\n"):
        name = field(paragraph, "Package")
        if name:
            state = field(paragraph, "Status")
            yield name, state
            if field(paragraph, "Multi-Arch") == "same":
                yield f"{name}:{field(paragraph, 'Architecture')}", state


def is_plain(state: str) -> bool:
    return state in WANTED or state.endswith(NOT_THERE)


def changed_files(root: str, states: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the files about packages that changed after the installation of their package, and those of no package.

    A copied system may have files whose time of change is that of their content: those say nothing about a change.
    """
    by_package: dict[str, dict[str, os.stat_result]] = {}
    with os.scandir(root + DPKG_INFO) as entries:
        for entry in entries:
            package, dot, kind = entry.name.rpartition(".")
            if entry.name in OF_DPKG:
                continue
            if not dot:
                yield f"{DPKG_INFO}/{entry.name}", "a file of no package"
                continue
            by_package.setdefault(package, {})[kind] = entry.stat(follow_symlinks=False)
    for package, files in by_package.items():
        state = states.get(package)
        if state is None or state.endswith(" not-installed"):
            if LISTED in files:
                yield f"{DPKG_INFO}/{package}.{LISTED}", "a list of files of a package that is not installed"
            continue
        if not state.endswith(" installed"):
            continue
        if LISTED not in files:
            yield f"{DPKG_INFO}/{package}.{LISTED}", "it is missing: the files of the package are judged by no list"
            continue
        for kind, reason in changes(files):
            yield f"{DPKG_INFO}/{package}.{kind}", reason


def changes(files: dict[str, os.stat_result]) -> Iterator[tuple[str, str]]:
    """Yield the kinds of the files that changed an hour or more after the earliest of the same package.

    dpkg writes the list of a package again when another package takes a file of it: its time says nothing.
    """
    others = [each.st_ctime_ns for kind, each in files.items() if kind != LISTED and is_of_kernel(each)]
    installed = min([*others, max(files[LISTED].st_mtime_ns, files[LISTED].st_ctime_ns)])
    for kind, status in files.items():
        if not is_regular(status):
            yield kind, "no plain file"
        elif kind not in OWN_FILES and status.st_mode & 0o111:
            yield kind, "a program of an unknown sort"
        elif (status.st_uid, status.st_gid) != (0, 0) or status.st_mode & 0o022:
            yield kind, "another account can write it"
        elif kind != LISTED and status.st_ctime_ns > installed + INSTALLED_NS:
            yield kind, "it changed after the installation of its package"


def is_regular(status: os.stat_result) -> bool:
    return status.st_mode & 0o170000 == 0o100000


def is_of_kernel(status: os.stat_result) -> bool:
    """Return whether the time of change is one that the kernel set: a package sets that of the content, to the day of
    its build.
    """
    return abs(status.st_ctime_ns - status.st_mtime_ns) > 1_000_000_000


def diversions(root: str, states: dict[str, str]) -> Iterator[Row]:
    """Yield the diversions that no installed package has made. Source: dpkg-divert(1)."""
    if not os.path.exists(root + DIVERSIONS):
        return
    with open(root + DIVERSIONS, "rb") as file:
        lines = file.read(LIST_BYTES).decode("utf-8", "replace").split("\n")
    if len(lines) % 3 != 1:
        raise ReadError(f"{DIVERSIONS} is truncated")
    for old, new, package in zip(lines[::3], lines[1::3], lines[2::3]):
        if package == LOCAL or not states.get(package, "not-installed").endswith(" installed"):
            yield {"path": old, "to": new, "by": "a person" if package == LOCAL else package}


def overrides(root: str, states: dict[str, str]) -> Iterator[tuple[str, Row]]:
    """Yield mode and owner that dpkg gives to a file in the place of its package's. Source: dpkg-statoverride(1).

    Those that the scripts of installed packages set are left out.
    """
    path = root + OVERRIDES
    lines = read(path).split("\n") if os.path.exists(path) else ()
    scripts = [*overriding_scripts(root, states)] if any(lines) else []
    for line in lines:
        words = line.split(" ", 3)
        if len(words) == 4 and not any(is_set_by(script, words) for script in scripts):
            yield words[3], {"mode": words[2].zfill(4), "owner": f"{words[0]}:{words[1]}"}


def is_set_by(script: str, words: list[str]) -> bool:
    """Return whether one command of *script* has owner, group and mode, and a later line than the first the path.

    Scripts such as that of chrony have the path in a loop. The first line is the interpreter, which is a path as well.
    """
    *rights, path = words
    body = script.partition("\n")[2]
    commands = [line.split() for line in body.split("\n") if "dpkg-statoverride" in line and "--add" in line]
    in_order = [[each.lstrip("0") for each in command] for command in commands]
    wanted = [each.lstrip("0") for each in rights]
    has_rights = any(wanted == command[at : at + 3] for command in in_order for at in range(len(command)))
    return has_rights and path in re.split(r"[\s\"';=]+", body)


def overriding_scripts(root: str, states: dict[str, str]) -> Iterator[str]:
    """Yield the scripts of installed packages that call dpkg-statoverride, such as that of chrony."""
    for name in listing(root + DPKG_INFO):
        package, _, kind = name.rpartition(".")
        if kind in ("preinst", "postinst") and states.get(package, "").endswith(" installed"):
            text = content(root, f"{DPKG_INFO}/{name}").decode("utf-8", "replace")
            if "dpkg-statoverride" in text:
                yield text


def choices(root: str) -> Iterator[tuple[str, Row]]:
    """Yield the names of update-alternatives that lead elsewhere than the best choice of packages.

    A choice has that of the highest priority in automatic mode. Source: update-alternatives(1).
    """
    for name in listing(root + ALTERNATIVES):
        row = attempt(choice, root, name)
        if row is not None:
            yield name, row


def choice(root: str, name: str) -> Row | None:
    """Return mode, target and best target of a name; None if the target is the best one.

    Raises:
        ReadError: its file has another form.
    """
    text = content(root, f"{ALTERNATIVES}/{name}").decode("utf-8", "surrogateescape")
    head, _, rest = text.partition("\n\n")
    mode, _, *pairs = head.split("\n")
    size = 2 + len(pairs) // 2
    rows = rest.split("\n")
    offered = {}
    for start in range(0, len(rows) - size + 1, size):
        if not rows[start]:
            break
        if not re.fullmatch(r"-?\d+", rows[start + 1]):
            raise ReadError("it has another form")
        offered[rows[start]] = int(rows[start + 1])
    if mode not in ("auto", "manual") or not offered:
        raise ReadError("it has another form")
    link = f"{root}{CHOSEN}/{name}"
    target = os.readlink(link) if os.path.islink(link) else ""
    best = [path for path, priority in offered.items() if priority == max(offered.values())]
    return None if target in best else {"mode": mode, "target": target, "best": best[0]}

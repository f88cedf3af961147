"""Files of the system's configuration that no package installed, and packages' configuration files that changed.

The files of a distribution are known from its packages: dpkg's lists of files, and the digests with which dpkg
and ucf installed configuration files.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import Iterable

from rackwright.facts.probe.observe import attempt, listing, read, read_untrusted
from rackwright.facts.probe.system import DPKG_STATUS, FILE_BYTES, dpkg_status, field

DPKG_INFO = "/var/lib/dpkg/info"
UCF = "/var/lib/ucf/hashfile"
"""Digests of the configuration files that ucf installed. Source: ucf(1), FILES."""
CONFIGURATION = "/etc/"
LOCAL = (
    CONFIGURATION,
    "/usr/local/lib/systemd/",
    "/usr/local/lib/udev/",
    "/usr/local/lib/sysctl.d/",
    "/usr/local/lib/tmpfiles.d/",
    "/usr/local/lib/modules-load.d/",
    "/usr/local/lib/modprobe.d/",
)
"""Directories for a person's own files that take effect by themselves. Source: systemd.unit(5), sysctl.d(5)."""
VENDOR_FOLDERS = (
    "/usr/lib/systemd/system",
    "/usr/lib/systemd/user",
    "/usr/lib/systemd/system-generators",
    "/usr/lib/systemd/user-generators",
    "/usr/lib/systemd/system-environment-generators",
    "/usr/lib/systemd/system-shutdown",
    "/usr/lib/systemd/system-sleep",
    "/usr/lib/udev/rules.d",
    "/usr/lib/sysctl.d",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/modules-load.d",
    "/usr/lib/modprobe.d",
    "/usr/share/dbus-1/system-services",
    "/usr/share/dbus-1/system.d",
    "/usr/share/polkit-1/rules.d",
    "/usr/share/keyrings",
)
"""Folders of packages outside /etc, whose files take effect by themselves."""
LOCAL_FOLDERS, SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin"), ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Folders of programs, in the order of sudo's secure_path. Source: Debian's sudo, /etc/sudoers."""
MERGED_PROGRAM = re.compile(r"^/usr(?=/s?bin/|/lib/)")
BASE = ("required", "important")
"""Priorities of the packages of every system. Source: Debian Policy 2.5."""
CONFFILES = "\nConffiles:\n"
DROPPED = (" obsolete", " remove-on-upgrade")
CONFFILE = re.compile(r" (/\S.*) ([0-9a-f]{32})(?: obsolete)?(?: remove-on-upgrade)?")


def base_programs(root: str, programs: Iterable[str]) -> list[str]:
    """Return those of *programs* that belong to a package that every system of the distribution has."""
    paths: set[str] = set()
    for paragraph in dpkg_status(root + DPKG_STATUS).split("\n\n"):
        if field(paragraph, "Priority") in BASE:
            paths.update(file_list(root, field(paragraph, "Package"), field(paragraph, "Architecture")))
    return sorted(path for path in programs if path in paths or MERGED_PROGRAM.sub("", path) in paths)


def file_list(root: str, package: str, architecture: str) -> list[str]:
    """Return the paths of a package; packages of several architectures have theirs in the name of the list."""
    for name in (package, f"{package}:{architecture}"):
        path = f"{root}{DPKG_INFO}/{name}.list"
        if os.path.exists(path):
            return read(path).splitlines()
    return []


def conffiles(root: str) -> dict[str, str]:
    """Return the digest (MD5) with which packages installed their configuration files, by path."""
    digests = {}
    for part in dpkg_status(root + DPKG_STATUS).split(CONFFILES)[1:]:
        for line in part.split("\n"):
            if not line.startswith(" "):
                break
            if match := CONFFILE.fullmatch(line):
                digests[match[1]] = match[2]
    return digests


def dropped_conffiles(root: str) -> set[str]:
    """Return the configuration files that packages no longer have, or remove at their next upgrade."""
    text = dpkg_status(root + DPKG_STATUS)
    return {line.split(" ")[1] for line in text.split("\n") if line.startswith(" /") and line.endswith(DROPPED)}


def ucf_digests(root: str) -> dict[str, str]:
    """Return the digest (MD5) of the latest packaged version of each file that ucf manages."""
    if not os.path.exists(root + UCF):
        return {}
    with open(root + UCF, encoding="utf-8", errors="surrogateescape") as file:
        rows = (line.split(None, 1) for line in file)
        return {row[1].strip(): row[0] for row in rows if len(row) == 2}


def shadowing_programs(root: str) -> list[str]:
    """Return the programs of an administrator that sudo and shells find before one of the system of the same name."""
    system = {name for folder in SYSTEM_FOLDERS for name in listing(root + folder)}
    return sorted(
        f"{folder}/{name}"
        for folder in LOCAL_FOLDERS
        for name in listing(root + folder)
        if name in system and os.access(f"{root}{folder}/{name}", os.X_OK)
    )


def changed_conffiles(root: str) -> dict[str, str]:
    """Return the packages' configuration files in /etc that differ from their packages: changed, missing, or a link."""
    states = {}
    dropped = dropped_conffiles(root)
    for path, packaged in {**conffiles(root), **ucf_digests(root)}.items():
        if not path.startswith(CONFIGURATION):
            continue
        state = attempt(conffile_state, root, path, packaged)
        if state != "packaged" and not (state == "missing" and path in dropped):
            states[path] = state
    return states


def conffile_state(root: str, path: str, packaged: str) -> str:
    if os.path.islink(root + path):
        return "link"
    folder, name = os.path.split(root + path)
    try:
        content = read_untrusted(folder, name, FILE_BYTES)
    except FileNotFoundError:
        return "missing"
    return "packaged" if hashlib.new("md5", content, usedforsecurity=False).hexdigest() == packaged else "changed"

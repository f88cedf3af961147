"""Names of /etc/nsswitch.conf: the packaged file, with the modules that scripts of packages add to it."""

from __future__ import annotations

import glob
import re

from rackwright.facts.probe.sources import System, content, lines

PATH = "/etc/nsswitch.conf"
PACKAGED = "/usr/share/libc-bin/nsswitch.conf"
LAST = {"systemd": ("passwd", "group", "shadow", "gshadow")}
"""Modules at the end of the lines of these databases. Source: postinst of libnss-systemd."""
AFTER_FILES = "myhostname"
"""Module of hosts behind files. Source: postinst of libnss-myhostname."""
BEFORE_DNS = {
    "mymachines": "mymachines",
    "resolve": "resolve [!UNAVAIL=return]",
    "mdns4_minimal": "mdns4_minimal [NOTFOUND=return]",
}
"""Modules of hosts before dns, in the order in which the packages were installed.

Source: postinst of libnss-mymachines, libnss-resolve and libnss-mdns.
"""


def is_switch(system: System, path: str, text: bytes) -> bool:
    """Return whether a text is the packaged file with modules that installed packages have added at their places."""
    if not system.is_packaged(PACKAGED):
        return False
    found, packaged = lines(text), lines(content(system.root, PACKAGED))
    return len(found) == len(packaged) and all(
        line == other or is_extended(system, line, other) for line, other in zip(found, packaged)
    )


def is_extended(system: System, line: str, packaged: str) -> bool:
    """Return whether a line is the packaged one with the modules of installed packages at their places."""
    database = packaged.partition(":")[0]
    if database == "hosts":
        rest = re.sub(rf"(\bfiles) {AFTER_FILES}\b", r"\1", line, count=1) if has_module(system, AFTER_FILES) else line
        for module, words in BEFORE_DNS.items():
            if has_module(system, module):
                rest = re.sub(rf"(\bfiles\b.*) {re.escape(words)}(?= .*\bdns$)", r"\1", rest, count=1)
        return rest == packaged
    modules = (module for module, databases in LAST.items() if database in databases)
    return any(line == f"{packaged} {module}" and has_module(system, module) for module in modules)


def has_module(system: System, module: str) -> bool:
    """Return whether a package has installed the library of a module."""
    return any(
        system.is_packaged(path[len(system.root) :])
        for pattern in ("/lib/*-linux-gnu", "/usr/lib/*-linux-gnu")
        for path in glob.glob(f"{glob.escape(system.root)}{pattern}/libnss_{module}.so.2")
    )

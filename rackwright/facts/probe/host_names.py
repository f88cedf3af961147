"""The names of a host itself, and those that its /etc/hosts gives to other addresses."""

from __future__ import annotations

import re

from rackwright.facts.probe.observe import ReadError, read
from rackwright.facts.probe.sources import content, lines

HOSTS = "/etc/hosts"
LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|::1")
FIXED_NAMES = {
    "localhost": LOOPBACK,
    "localhost.localdomain": LOOPBACK,
    "ip6-localhost": re.compile("::1"),
    "ip6-loopback": re.compile("::1"),
    "ip6-localnet": re.compile("fe00::0?"),
    "ip6-mcastprefix": re.compile("ff00::0?"),
    "ip6-allnodes": re.compile("ff02::1"),
    "ip6-allrouters": re.compile("ff02::2"),
    "ip6-allhosts": re.compile("ff02::3"),
}
"""Addresses of the names that each host has for itself. Source: hosts(5)."""
NAMES, NAMES_EACH, NAME_LENGTH = 200, 64, 253
"""Largest number of lines of /etc/hosts in the facts, of names in each, and of letters of a name."""


def own_name(root: str) -> str:
    return read(f"{root}/proc/sys/kernel/hostname")


def names(root: str) -> list[list[str]]:
    """Return the lines of /etc/hosts that give a name to another address than each host has for itself.

    Raises:
        ReadError: the file has another form, or more than the facts have place for.
    """
    own = own_name(root).partition(".")[0]
    rows = []
    for line in lines(content(root, HOSTS)):
        address, *found = line.partition("#")[0].split() or ["", ""]
        if not found:
            raise ReadError(f"{HOSTS} has a line without a name")
        others = [name for name in found if name and not is_own(name, address, own)]
        if len(others) > NAMES_EACH or any(len(name) > NAME_LENGTH for name in (address, *others)):
            raise ReadError(f"{HOSTS} has a line with more than {NAMES_EACH} names, or a name that is too long")
        if others:
            rows.append([address, *others])
    if len(rows) > NAMES:
        raise ReadError(f"{HOSTS} has more than {NAMES} lines with names of others")
    return rows


def is_own(name: str, address: str, own: str) -> bool:
    """Return whether a line of /etc/hosts gives a host's own name its own address."""
    pattern = FIXED_NAMES.get(name, LOOPBACK if name.partition(".")[0] == own else None)
    return pattern is not None and pattern.fullmatch(address) is not None

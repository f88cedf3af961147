"""Files that netplan writes below /run: each value is one of /etc/netplan, or one that netplan adds by itself.

The files have no place for a command. Source: netplan 0.106 and 1.1, src/networkd.c.
"""

from __future__ import annotations

import os
import re

from rackwright.facts.probe.grammars import NAMING
from rackwright.facts.probe.observe import ReadError, listing
from rackwright.facts.probe.sources import System, content, lines

FOLDERS = ("/etc/netplan", "/run/netplan", "/usr/lib/netplan", "/lib/netplan")
NAME = re.compile(r"/run/systemd/network/10-netplan-([\w.@:-]+)\.(?:link|network|netdev)")
SECTION, SETTING = re.compile(r"\[[A-Z][A-Za-z0-9]+\]"), re.compile(r"([A-Za-z0-9]+)=(.*)")
WORDS = re.compile(r"[^\s,\[\]{}\"'|>]+")
ADDED = frozenset(
    (
        *(
            "yes",
            "no",
            "true",
            "false",
            "on",
            "off",
            "ipv4",
            "ipv6",
            "both",
            "any",
            "carrier",
            "global",
            "link",
            "host",
        ),
        *("bond", "bridge", "vlan", "vxlan", "vrf", "wireguard", "dummy", "veth", "sit", "ipip", "gre", "tun", "tap"),
        *(
            "0.0.0.0/0",
            "::/0",
            "magic",
            "unicast",
            "main",
            "kernel",
            "mac",
            "duid",
            "always-up",
            "manual",
            "up",
            "down",
        ),
        *("degraded", "routable", "ether", "!veth", "wlan", "100", "600", "254", "255", "100000", "none", "ignore"),
    )
)
"""Words that netplan writes for a switch, a sort of link, a network of all addresses, or a metric of its own."""
UNITS = re.compile(r"(\d+)(?:ms|s|M|K|G)?")
QUOTED = re.compile(r'(?:ATTR\{address\}|ENV\{ID_NET_(?:NAME|DRIVER)\}|KERNEL|DRIVERS|NAME)=+"([^"]*)"')
ANY_DRIVER = ("?*", "")


def words_of(system: System) -> set[str]:
    """Return the words of the settings of netplan, in small letters.

    Raises:
        ReadError: there are none.
    """
    found: set[str] = set()
    for folder in FOLDERS:
        if os.path.isdir(system.root + folder):
            for name in listing(system.root + folder, "*.yaml"):
                for line in content(system.root, f"{folder}/{name}").decode("utf-8", "replace").split("\n"):
                    if not line.lstrip().startswith("#"):
                        found.update(word.rstrip(":").lower() for word in WORDS.findall(line))
    if not found:
        raise ReadError("there are no settings of netplan to compare it with")
    return found


def is_of_settings(word: str, known: set[str]) -> bool:
    """Return whether a word is one of the settings, one of netplan, or a number of the settings with a unit."""
    lower = word.lower()
    number = UNITS.fullmatch(lower)
    return lower in known or lower in ADDED or (number is not None and number[1] in known)


def is_network(system: System, path: str, text: bytes) -> bool:
    """Return whether each value of a file for networkd is one of the settings of netplan.

    Raises:
        ReadError: it has another one; says which.
    """
    match, known = NAME.fullmatch(path), words_of(system)
    if match is None or not is_of_settings(match[1], known):
        raise ReadError("no link of the settings has this name")
    for row in lines(text):
        setting = SETTING.fullmatch(row)
        if setting is None:
            if row and not SECTION.fullmatch(row):
                raise ReadError(f"line {row[:80]}")
            continue
        other = [word for word in WORDS.findall(setting[2]) if not is_of_settings(word, known)]
        if other:
            raise ReadError(f"{setting[1]}={other[0][:80]}, which is not in /etc/netplan")
    return True


def is_naming_rules(system: System, path: str, text: bytes) -> bool:
    """Return whether the rules of netplan for udev give names to links of its settings, and run no program."""
    known = words_of(system)
    for row in lines(text):
        if not row or row.startswith("#"):
            continue
        if NAMING.fullmatch(row) is None:
            return False
        values = [value for value in QUOTED.findall(row) if value not in ANY_DRIVER]
        other = [value for value in values if not is_of_settings(value, known)]
        if other or not values:
            raise ReadError(f"{(other or [row])[0][:80]}, which is not in /etc/netplan")
    return True

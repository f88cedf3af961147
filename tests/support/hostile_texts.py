"""Texts of fleets with characters that files of root, shells and terminals would read as their own."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rackwright.errors import DeclarationError
from rackwright.fleet import load_fleet
from rackwright.fleet.source import read
from rackwright.schema.problem import Keys
from tests.support.our_roles import ROLES
from tests.support.sources import ROOT

CONTROL = ("\n", "\r", "\t", "\x00", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u00a0", "\ufeff")
"""Characters that no text of one line has."""
QUOTES = (
    "'",
    '"',
    "`",
    "%",
    " ",
    "\\",
    "{",
    "}",
    ";",
    "$",
    "|",
    "&",
    "<",
    ">",
    "(",
    ")",
    "#",
    "*",
    "!",
    "^",
    ",",
    "~\n",
)
"""Characters that no address, network, host, endpoint or URL has, beside those above."""
FLEETS = tuple(
    path
    for path in sorted([*(ROOT / "tests/kinds").glob("*.yaml"), *(ROOT / "stacks").glob("[a-z]*.yaml")])
    if path.name != "documented.yaml"  # it has anchors
)
"""Valid fleets, which declare all kinds and roles."""
LINES = ("-----BEGIN ", "roles.container_runtime.definitions.app", "roles.container_runtime.definitions.requirements")
"""Beginnings and places of the texts that have several lines."""

RIGHT: dict[str, list[str]] = {
    "time_zone": ["Europe/Zurich", "Etc/UTC", "America/Argentina/Buenos_Aires"],
    "locale": ["C", "C.UTF-8", "en_US.UTF-8", "ca_ES.UTF-8@valencia"],
    "address": ["192.0.2.1", "2001:db8::1"],
    "listen_address": ["127.0.0.1", "::1"],
    "network": ["192.0.2.11", "192.0.2.0/24", "2001:db8::/32"],
    "host": ["time-1", "time-1.example", "192.0.2.1", "2001:db8::1", "3ware.example"],
    "endpoint": ["10.0.0.11:8080", "[2001:db8::11]:8080"],
    "package": ["htop", "libstdc++6", "gcc-12"],
    "size": ["1G", "1.5G", "500M", "1073741824"],
    "sysctl": ["vm.swappiness", "net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0-1.rp_filter"],
    "url": ["https://mirror.example/x", "http://192.0.2.1:8080"],
    "apt_source": ["https://mirror.example/debian noble main", "file:/srv/mirror ./"],
    "public_key": ["-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n"],
    "certificate": ["-----BEGIN CERTIFICATE-----\n"],
    "version": ["1", "580.95.05-1", "1:2.3~rc1+b1", "6.8.0-60-generic"],
    "file_name": ["a", "Ascend-hdk-910b_23.0.run"],
    "path": ["/a", "/srv/warm/models", "/bin/bash", "/srv/a/"],
    "image": ["docker.io/nvidia/cuda@sha256:ab", "registry.k8s.io/pause:3.10", "localhost/a"],
    "url_part": ["mirror.example:5000", "http://mirror.example/path"],
    "words": ["Rack 1", "unlimited", "a@b"],
    "lines": ["a\n\tb\n", ""],
}
"""Valid texts of each format."""
PARSED = ("address", "listen_address", "network", "host", "endpoint", "url")
"""Formats whose texts stand in lines of programs and settings."""


def variants(text: str) -> Iterator[str]:
    """Yield *text* with each hostile character in front, inside and behind, and scopes and line breaks of others."""
    for sign in (*CONTROL, *QUOTES):
        for place in (0, len(text) // 2, len(text)):
            yield text[:place] + sign + text[place:]
    yield from (f"{text}%eth0", f"fe80::1%{text}", f"fe80::1%x\n{text}", f"{text}\nTrusted: yes", f"{text}%0a")


def leaves(value: Any, keys: Keys = ()) -> Iterator[tuple[Keys, str]]:
    """Yield the place of each text in *value*, and the text."""
    if isinstance(value, str):
        yield keys, value
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*keys, key))


def has_lines(keys: Keys, text: str) -> bool:
    """Return whether the *text* at *keys* may have several lines."""
    path = ".".join(key for key in keys if isinstance(key, str))
    return text.startswith(LINES[0]) or path.endswith(LINES[1:])


def fleets_with(path: Path, insert: str) -> Iterator[tuple[Keys, dict[str, Any]]]:
    """Yield the fleet in *path* once for each of its texts of one line, with *insert* in the middle of that text."""
    data = read(path).data
    for keys, text in leaves(data):
        if not has_lines(keys, text):
            changed = part = copy.deepcopy(data)
            for key in keys[:-1]:
                part = part[key]
            half = len(text) // 2
            part[keys[-1]] = text[:half] + insert + text[half:]
            yield keys, changed


def refusal(path: Path, fleet: dict[str, Any]) -> DeclarationError | None:
    """Return the errors of *fleet* in the place of the file *path*; None if it is accepted."""
    try:
        load_fleet(path, ROLES, text=json.dumps(fleet))
    except DeclarationError as refused:
        return refused
    return None

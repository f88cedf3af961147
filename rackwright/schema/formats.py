"""Formats of the values of roles' variables, by the names that ``formats`` in a role's ``meta/claims.yml`` uses."""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rackwright.schema import locales, time_zones
from rackwright.schema.problem import Keys, Problem, excerpt, hint
from rackwright.schema.reference import name_of

LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = rf"{LABEL}(\.{LABEL})*\.?"
PACKAGE = r"[a-z0-9][a-z0-9+.-]+"
SIZE = r"[0-9]+(\.[0-9]+)?[KMGTPE]?"
SYSCTL = r"[A-Za-z0-9_*-]+([./][A-Za-z0-9_*@:-]+)+"
SCHEMES = ("http", "https")
PUBLIC_KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
CERTIFICATE = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Format:
    """The format of a text."""

    is_valid: Callable[[str], bool]
    expected: str
    help: str
    pattern: str = ""
    """Regular expression of ECMA 262 for editors, which may allow more than *is_valid*; empty for none."""
    choices: Callable[[], Iterable[str]] = tuple
    """All valid values, if there is a list of them."""
    replacements: Callable[[], Mapping[str, str]] = dict
    """Valid values in the place of old ones."""

    def problem(self, text: str) -> Problem | None:
        """Return the problem of *text*; None if it is valid."""
        if self.is_valid(text):
            return None
        replacement = self.replacements().get(text)
        help = f"Write {replacement}" if replacement else hint(text, self.choices(), self.help)
        return Problem(f"got {excerpt(text)}", self.expected, help)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_listen_address(text: str) -> bool:
    return _is_address(text) and not ipaddress.ip_address(text).is_unspecified


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _is_host(text: str) -> bool:
    numeric = re.fullmatch(r"[0-9.]+", text)
    return _is_address(text) or (not numeric and len(text) < 254 and re.fullmatch(HOST_NAME, text) is not None)


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in SCHEMES and bool(url.hostname) and _is_host(str(url.hostname)) and url.port != 0
    except ValueError:
        return False


def _is_apt_source(text: str) -> bool:
    words = text.split()
    return len(words) > 1 and (_is_url(words[0]) or words[0].startswith("file:/"))


def _is_endpoint(text: str) -> bool:
    address, _, port = text.rpartition(":")
    is_bracketed = address.startswith("[") and address.endswith("]")
    valid = _is_address(address.strip("[]")) and is_bracketed == (":" in address)
    return valid and re.fullmatch("[0-9]{1,5}", port) is not None and 0 < int(port) < 65536


def _matches(pattern: str) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(pattern, text) is not None


FORMATS: Mapping[str, Format] = {
    "time_zone": Format(
        lambda text: text in time_zones.names(),
        "a current name in the tz database, which every system has",
        "Write it like Europe/Zurich",
        "^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
        time_zones.names,
        time_zones.current_names,
    ),
    "locale": Format(
        locales.NAMES.__contains__,
        "a locale of glibc in UTF-8",
        "Write it like en_US.UTF-8",
        r"^(C|POSIX|(C|[a-z]{2,3}(_[A-Z]{2})?)\.UTF-8(@[a-z]+)?)$",
        lambda: locales.NAMES,
    ),
    "address": Format(_is_address, "an IP address", "Write it like 192.0.2.11"),
    "listen_address": Format(
        _is_listen_address, "one IP address of the host", "Write 127.0.0.1, or the address of a link of the host"
    ),
    "network": Format(_is_network, "an IP address or a network", "Write it like 192.0.2.11 or 192.0.2.0/24"),
    "host": Format(_is_host, "a host name or an IP address", "Write it like time-1.example or 192.0.2.11"),
    "endpoint": Format(_is_endpoint, "an IP address and a port", "Write it like 10.0.0.11:8080 or [2001:db8::11]:8080"),
    "package": Format(
        _matches(PACKAGE), "a package's name of small letters, digits and + - .", "Write it like htop", f"^{PACKAGE}$"
    ),
    "size": Format(_matches(SIZE), "a number of bytes, or one with K, M, G or T", "Write it like 1G", f"^{SIZE}$"),
    "sysctl": Format(_matches(SYSCTL), "the name of a kernel setting", "Write it like vm.swappiness", f"^{SYSCTL}$"),
    "url": Format(_is_url, "an address that begins with http:// or https://", "Write it like https://mirror.example/"),
    "apt_source": Format(
        _is_apt_source,
        "the text behind deb: address, suite and components",
        "Write it like https://mirror.example/debian noble main",
    ),
    "public_key": Format(
        lambda text: text.startswith(PUBLIC_KEY),
        f"a public key, which begins with {PUBLIC_KEY}",
        "Write the unchanged key file of the repository",
    ),
    "certificate": Format(
        lambda text: CERTIFICATE in text,
        f"a certificate in PEM, which begins with {CERTIFICATE}",
        "Write the unchanged file of your authority, followed by its intermediate certificates",
    ),
}
"""All formats by name."""


def problems(formats: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of *settings*, at their keys.

    Args:
        formats: Names of formats by path without the indexes of lists: ``users.name``; ``*`` is any key of a mapping.
    """
    for path, name in formats.items():
        for keys, text in _texts(settings, path.split("."), ()):
            if problem := FORMATS[name].problem(text):
                yield problem.below(*keys)


def _texts(value: Any, path: list[str], keys: Keys) -> Iterator[tuple[Keys, str]]:
    """Yield the texts at *path* with their keys: items of lists, and the keys of a mapping at the end of the path."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, path, (*keys, index))
    elif path and isinstance(value, Mapping):
        for key in value if path[0] == "*" else [path[0]] if path[0] in value else ():
            yield from _texts(value[key], path[1:], (*keys, str(key)))
    elif isinstance(value, Mapping):
        if name_of(value, "secret") is None and name_of(value, "tier") is None:
            yield from (((*keys, str(key)), str(key)) for key in value)
    elif not path and value is not None:
        yield keys, str(value)

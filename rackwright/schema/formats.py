"""Formats of declared texts: one set of characters for each, and the only parsers of declared addresses and URLs.

Files of root have these texts in their lines: units of systemd, scripts, settings of nginx, chrony, keepalived and apt.
Python's own parsers accept more: any text as the scope of an IPv6 address, and line breaks in a URL. Therefore the
characters are checked first. A role names the formats of its variables in ``formats`` of its ``meta/claims.yml``.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from rackwright.schema import locales, time_zones
from rackwright.schema.problem import Keys, Problem, excerpt, hint, line_problem
from rackwright.schema.reference import name_of

LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = rf"{LABEL}(\.{LABEL})*\.?"
PACKAGE = r"[a-z0-9][a-z0-9+.-]+"
SIZE = r"(0|[1-9][0-9]*)(\.[0-9]+)?[KMGTPE]?"
SYSCTL = r"[A-Za-z0-9_*-]+([./][A-Za-z0-9_*@:-]+)+"
SCHEMES = ("http", "https")
ADDRESS = r"[0-9A-Fa-f:.]+"
PREFIX = r"(0|[1-9][0-9]{0,2})"
URL_PART = r"[A-Za-z0-9._~:/?@+=-]+"
"""Characters of URLs without those that a file or a shell could read as its own, such as quotes, ``%`` and ``;``."""
VERSION = r"[A-Za-z0-9][A-Za-z0-9._+~:-]*"
FILE_NAME = r"[A-Za-z0-9][A-Za-z0-9._+~-]*"
PATH = r"(/[A-Za-z0-9_][A-Za-z0-9._+-]*)+/?"
IMAGE = r"[a-z0-9][A-Za-z0-9._/:@-]*"
WORDS = r"[A-Za-z0-9][A-Za-z0-9 ._@+-]*"
URL = rf"https?://(\[{ADDRESS}\])?({URL_PART})?"
PUBLIC_KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
CERTIFICATE = "-----BEGIN CERTIFICATE-----"


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


def parse_address(text: str) -> Address:
    """Return the IP address *text*, which has no scope.

    Raises:
        ValueError: the text is no IP address.
    """
    return ipaddress.ip_address(_whole(ADDRESS, text))


def parse_network(text: str, strict: bool = True) -> Network:
    """Return the IP network *text*: an address, or an address with its prefix length.

    Args:
        strict: Whether bits of the host are refused.

    Raises:
        ValueError: the text is no IP network.
    """
    return ipaddress.ip_network(_whole(rf"{ADDRESS}(/{PREFIX})?", text), strict)


def parse_interface(text: str) -> Interface:
    """Return the address and the network of *text*, an IP address with its prefix length.

    Raises:
        ValueError: the text is something else.
    """
    return ipaddress.ip_interface(_whole(rf"{ADDRESS}/{PREFIX}", text))


def no_hosts(network: Network) -> tuple[Address, ...]:
    """Return the addresses of *network* that no machine has: in IPv4 the network's own one, and that of all in it."""
    if network.version == 6 or network.prefixlen > 30:  # RFC 3021: a network of two has two machines
        return ()
    return network.network_address, network.broadcast_address


def parse_url(text: str) -> SplitResult:
    """Return the parts of *text*, a URL with http or https.

    Raises:
        ValueError: the text is something else.
    """
    url = urlsplit(_whole(URL, text))
    if not url.hostname or not _is_host(url.hostname) or url.port == 0:
        raise ValueError
    return url


def _whole(pattern: str, text: str) -> str:
    """Return *text* if *pattern* matches it as a whole; raise ValueError otherwise."""
    if not re.fullmatch(pattern, text):
        raise ValueError
    return text


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

    has_lines: bool = False
    """Whether the text has several lines."""

    def problem(self, text: str) -> Problem | None:
        """Return the problem of *text*; None if it is valid."""
        if wrong := line_problem(text, self.has_lines):
            return wrong
        if self.is_valid(text):
            return None
        replacement = self.replacements().get(text)
        help = f"Write {replacement}" if replacement else hint(text, self.choices(), self.help)
        return Problem(f"got {excerpt(text)}", self.expected, help)


def _parses(parse: Callable[[str], object]) -> Callable[[str], bool]:
    """Return whether *parse* accepts a text."""

    def accepts(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return accepts


_is_address, _is_url = _parses(parse_address), _parses(parse_url)
_is_network = _parses(lambda text: parse_network(text, strict=False))


def _is_listen_address(text: str) -> bool:
    return _is_address(text) and not parse_address(text).is_unspecified


def _is_host(text: str) -> bool:
    numeric = re.fullmatch(r"[0-9.]+", text)
    return _is_address(text) or (not numeric and len(text) < 254 and re.fullmatch(HOST_NAME, text) is not None)


def _is_apt_source(text: str) -> bool:
    first, *others = text.split(" ")
    is_place = _is_url(first) or re.fullmatch(rf"file:/{URL_PART}", first) is not None
    return is_place and bool(others) and all(re.fullmatch(URL_PART, word) for word in others)


def _is_endpoint(text: str) -> bool:
    address, _, port = text.rpartition(":")
    is_bracketed = address.startswith("[") and address.endswith("]")
    valid = _is_address(address[1:-1] if is_bracketed else address) and is_bracketed == (":" in address)
    return valid and re.fullmatch("[1-9][0-9]{0,4}", port) is not None and int(port) < 65536


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
        has_lines=True,
    ),
    "certificate": Format(
        lambda text: CERTIFICATE in text,
        f"a certificate in PEM, which begins with {CERTIFICATE}",
        "Write the unchanged file of your authority, followed by its intermediate certificates",
        has_lines=True,
    ),
    "version": Format(
        _matches(VERSION), "a version of letters, digits and . _ + ~ : -", "Write it like 580.95.05-1", f"^{VERSION}$"
    ),
    "file_name": Format(
        _matches(FILE_NAME), "the name of a file, without a directory", "Write it like driver.run", f"^{FILE_NAME}$"
    ),
    "path": Format(_matches(PATH), "an absolute path of letters, digits and . _ + -", "Write it like /srv/data"),
    "image": Format(_matches(IMAGE), "the name of an image", "Write it like registry.example/model@sha256:…"),
    "url_part": Format(_matches(URL_PART), "an address without quotes and blanks", "Write it like mirror.example:5000"),
    "words": Format(_matches(WORDS), "a text of letters, digits, blanks and . _ @ + -", "Write it like Rack 1"),
    "lines": Format(lambda text: True, "a text of several lines", "Write the content of the file", has_lines=True),
}
"""All formats by name."""


def problems(formats: Mapping[str, str], settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the problems of *settings*, at their keys.

    Args:
        formats: Names of formats by path without the indexes of lists: ``users.name``; ``*`` is any key of a mapping.
    """
    several = {path for path, name in formats.items() if FORMATS[name].has_lines}
    for keys, text in _all_texts(settings, ()):
        if not text.isprintable() and _path(keys) not in several and (problem := line_problem(text)):
            yield problem.below(*keys)
    for path, name in formats.items():
        for keys, text in _texts(settings, path.split("."), ()):
            is_seen = not text.isprintable() and not FORMATS[name].has_lines  # in the loop above
            if not is_seen and (problem := FORMATS[name].problem(text)):
                yield problem.below(*keys)


def _path(keys: Keys) -> str:
    return ".".join(key for key in keys if isinstance(key, str))


def _all_texts(value: Any, keys: Keys) -> Iterator[tuple[Keys, str]]:
    """Yield the texts and keys of mappings in *value*, at any depth."""
    if isinstance(value, str):
        yield keys, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield (*keys, str(key)), str(key)
            yield from _all_texts(item, (*keys, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _all_texts(item, (*keys, index))


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

"""Unmanaged files of netplan, systemd-networkd and ifupdown that configure a declared link."""

import configparser
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import yaml

from rackwright.facts.facts import Facts
from rackwright.facts.view import UnknownFact
from rackwright.kinds.network.spec import NETPLAN

INTERFACES = "/etc/network/interfaces"
INTERFACES_D = "/etc/network/interfaces.d"
IFUPDOWN = "/etc/network/"
INTEGER_BITS = 128
"""Maximum bits of an integer in a file of netplan."""


def conflicting_files(facts: Facts, name: str, mac: str | None, pci: str | None) -> tuple[str, ...]:
    """Return the unmanaged files that configure the link *name* by its declared name, present name or MAC; sorted.

    Raises:
        UnknownFact: a file cannot be read, or its effect depends on facts that only the host has.
    """
    port = facts.port(mac, pci) if mac or pci else None
    names = {name} if port is None else {name, port.name}
    if port is not None:
        mac = port.permanent_mac
    files = {
        *_netplan(facts, names, mac),
        *_networkd(facts, names, mac),
        *(path for path, stanzas in ifupdown_interfaces(facts).items() if stanzas & names),
    }
    return tuple(sorted(files))


def _texts(facts: Facts, folder: str, suffix: str) -> Iterator[tuple[str, str]]:
    for name in facts.listing(folder) or ():
        path = f"{folder}/{name}"
        if name.endswith(suffix) and (text := facts.text(path)) is not None:
            yield path, text


def _netplan(facts: Facts, names: set[str], mac: str | None) -> Iterator[str]:
    for path, text in _texts(facts, "/etc/netplan", ".yaml"):
        if path == NETPLAN:
            continue
        loaded = _load_yaml(path, text)
        network = loaded.get("network") if isinstance(loaded, dict) else None
        for sort, definitions in (network if isinstance(network, dict) else {}).items():
            for id, definition in (definitions if isinstance(definitions, dict) else {}).items():
                texts = _Texts(path, definition if isinstance(definition, dict) else {})
                if _is_netplan_of(texts.text(sort), texts.text(id), texts, names, mac):
                    yield path


@dataclass(frozen=True)
class _Texts:
    """A mapping of a file whose values are texts or lists of texts."""

    path: str
    values: Mapping[Any, Any]

    def list(self, key: str) -> list[str]:
        """Return the texts at *key*; one text is a list of one.

        Raises:
            UnknownFact: a value has another type.
        """
        value = self.values.get(key)
        if value is None:
            return []
        return [self.text(each) for each in (value if isinstance(value, list) else [value])]

    def text(self, value: object) -> str:
        """Return a scalar of YAML as text.

        Raises:
            UnknownFact: it is none, or an integer of thousands of digits.
        """
        if isinstance(value, str):
            return value
        if isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() <= INTEGER_BITS):
            return str(value)
        raise UnknownFact(f"{self.path} has a value that is neither a text nor a number of usual size")


def _load_yaml(path: str, text: str) -> Any:
    """Return the content of a YAML file of a host.

    Aliases are refused: a few lines with them stand for more content than any memory holds.

    Raises:
        UnknownFact: it is no YAML, or has aliases.
    """
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
            raise UnknownFact(f"{path} has aliases of YAML, which are not read")
        return yaml.load(text, yaml.CSafeLoader)
    except UnknownFact:
        raise
    except Exception:  # its constructors of dates and numbers raise ValueError, and more
        raise UnknownFact(f"{path} is no YAML") from None


def _is_netplan_of(sort: str, id: str, definition: _Texts, names: set[str], mac: str | None) -> bool:
    if sort in ("bonds", "bridges") and names & {*definition.list("interfaces")}:
        return True
    content = definition.values.get("match")
    if not isinstance(content, dict):
        return id in names
    if names & {*definition.list("set-name")}:
        return True
    match = _Texts(definition.path, content)
    fits = any(fnmatchcase(name, one) for name in names for one in match.list("name") or ["*"])
    addresses = match.list("macaddress")
    return fits and (not addresses or mac in [each.lower() for each in addresses])  # any link may have its `driver`


def _networkd(facts: Facts, names: set[str], mac: str | None) -> Iterator[str]:
    folder = "/etc/systemd/network"
    for path, text in _texts(facts, folder, ".network"):
        # networkd uses the first matching file; this is the name of netplan's own
        if any(path.rpartition("/")[2] <= f"10-netplan-{name}.network" for name in names):
            match = _section(path, text, "Match")
            if _matches(match.get("name") or "*", names) and _is_one_of(match, mac):
                yield path
    for path, text in _texts(facts, folder, ".netdev"):
        if _section(path, text, "NetDev").get("name") in names:
            yield path


def _section(path: str, text: str, name: str) -> Mapping[str, str]:
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True, delimiters=("=",))
    try:
        parser.read_string(text)
    except Exception:  # a line that continues a key without a value raises AttributeError
        raise UnknownFact(f"{path} cannot be read as systemd's") from None
    section = parser[name] if parser.has_section(name) else {}
    return {key: value or "" for key, value in section.items()}


def _matches(text: str, names: set[str]) -> bool:
    """Return whether systemd's list of patterns *text*, which a ``!`` negates, matches one of *names*."""
    patterns = text.lstrip("!").split()
    return any(any(fnmatchcase(name, one) for one in patterns) != text.startswith("!") for name in names)


def _is_one_of(match: Mapping[str, str], mac: str | None) -> bool:
    lists = [match[key].lower().split() for key in ("macaddress", "permanentmacaddress") if match.get(key)]
    return all(mac in addresses for addresses in lists)


def ifupdown_interfaces(facts: Facts) -> dict[str, set[str]]:
    """Return the interfaces that ifupdown sets up without loopback, by file.

    Raises:
        UnknownFact: a file includes a path that the probe does not read.
    """
    texts = dict(_texts(facts, INTERFACES_D, ""))
    if (main := facts.text(INTERFACES)) is not None:
        texts[INTERFACES] = main
    interfaces = {}
    for path, text in texts.items():
        for source in re.findall(r"^[ \t]*source(?:-directory)?[ \t]+(\S+)", text, re.M):
            if not re.fullmatch(rf"({INTERFACES_D}|interfaces\.d)(/\*)?", source):
                raise UnknownFact(f"{path} includes {source}, which the probe does not read")
        lines = re.findall(r"^[ \t]*(?:iface[ \t]+(\S+)|(?:auto|allow-\S+)[ \t]+(.+))", text, re.M)
        stanzas = {name.partition(":")[0] for one, several in lines for name in (one or several).split()} - {"lo"}
        if stanzas:
            interfaces[path] = stanzas
    return interfaces

"""The merge of fleet, group and host settings, and the way back from a merged value to its line."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, reduce
from typing import Any

from rackwright.fleet.source import Source
from rackwright.schema.problem import Keys

FLEET_WIDE = ("ssh", "alerts", "health")
"""Keys that a fleet may set for every host."""


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Return the merge of *layers*, the last one strongest: mappings merge, lists and scalars replace, null removes."""
    return reduce(_merge_two, layers, {})


def _merge_two(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            under = result.get(key)
            result[key] = _merge_two(under if isinstance(under, dict) else {}, value)
        else:
            result[key] = value
    return result


@dataclass(frozen=True)
class Layers:
    """The sources of a host's values: the fleet itself, its group with the groups around it, the host."""

    source: Source

    @cached_property
    def hosts(self) -> dict[str, dict[str, Any]]:
        return _mappings(self.source.data.get("hosts"))

    @cached_property
    def groups(self) -> dict[str, dict[str, Any]]:
        return _mappings(self.source.data.get("groups"))

    @cached_property
    def profiles(self) -> dict[str, dict[str, Any]]:
        return _mappings(self.source.data.get("profiles"))

    def group(self, host: str) -> str | None:
        """Return the group of *host*, or the group whose name is nearest to an undeclared one; None without both."""
        group = self.hosts[host].get("group")
        if not isinstance(group, str) or group in self.groups:
            return group if isinstance(group, str) else None
        return next(iter(get_close_matches(group, self.groups, 1)), None)

    @cached_property
    def hosts_without_group(self) -> frozenset[str]:
        """The hosts whose group is not declared, and is near to no other one: their settings are unknown."""
        return frozenset(
            name for name, host in self.hosts.items() if isinstance(host.get("group"), str) and self.group(name) is None
        )

    def chain(self, group: str | None) -> tuple[str, ...]:
        """Return *group* and the groups around it, the nearest first; a circle ends at its first repetition."""
        names: list[str] = []
        while group in self.groups and group not in names:
            names.append(group)
            group = self.groups[group].get("group")
            group = group if isinstance(group, str) else None
        return tuple(names)

    def merge_group(self, group: str | None) -> dict[str, Any]:
        """Return the settings of *group*, merged over those of the groups around it."""
        return merge(*(self.groups[name] for name in reversed(self.chain(group))))

    def merge_host(self, host: str) -> dict[str, Any]:
        fleet_wide = {key: self.source.data.get(key) for key in FLEET_WIDE}
        merged = merge(fleet_wide, self.merge_group(self.group(host)), self.hosts[host])
        hardware = self.profiles.get(str(merged.get("profile")))
        return merged if hardware is None else merge({"hardware": hardware}, merged)

    def origin(self, keys: Keys) -> Keys:
        """Return the keys where the file has the value of *keys*: below the host, its group, or the fleet."""
        if len(keys) < 3 or keys[0] != "hosts" or keys[1] not in self.hosts:
            return keys
        below = keys[2:]
        if below[0] == "hardware" and self.source.depth(("hosts", keys[1], "hardware")) < 3:
            profile = self.merge_host(str(keys[1])).get("profile")
            return ("profiles", str(profile), *below[1:])
        places: list[Keys] = [("hosts", keys[1])]
        places += [("groups", name) for name in self.chain(self.group(str(keys[1])))]
        if below[0] in FLEET_WIDE:
            places.append(())
        # the deepest place; among equals the nearest one, because max() keeps the first
        return (*max(places, key=lambda place: self.source.depth((*place, *below)) - len(place)), *below)


def _mappings(value: Any) -> dict[str, dict[str, Any]]:
    entries = value.items() if isinstance(value, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}

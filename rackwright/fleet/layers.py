"""A host is its group with its own settings over it: the one merge, and the way back to what was written."""

from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

from rackwright.fleet.source import Source
from rackwright.schema.problem import Keys

OF_ALL = ("ssh", "alerts", "health")
"""What a fleet may say of every host."""


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Return *layers* from left to right over each other: mappings merge, lists and scalars replace, null removes."""
    return reduce(_over, layers, {})


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            under = merged.get(key)
            merged[key] = _over(under if isinstance(under, dict) else {}, value)
        else:
            merged[key] = value
    return merged


@dataclass(frozen=True)
class Layers:
    """Where the values of a fleet's hosts come from: the fleet itself, the group, the host."""

    source: Source

    @cached_property
    def hosts(self) -> dict[str, dict[str, Any]]:
        return _mappings(self.source.data.get("hosts"))

    @cached_property
    def groups(self) -> dict[str, dict[str, Any]]:
        return _mappings(self.source.data.get("groups"))

    def group(self, host: str) -> str | None:
        """Return the group of *host*, where it has one and that is declared."""
        group = self.hosts[host].get("group")
        return group if isinstance(group, str) and group in self.groups else None

    def merged(self, host: str) -> dict[str, Any]:
        of_all = {key: self.source.data.get(key) for key in OF_ALL}
        group = self.group(host)
        return merge(of_all, self.groups[group] if group is not None else {}, self.hosts[host])

    def written(self, keys: Keys) -> Keys:
        """Return where the value at *keys* below ``hosts.NAME`` was written: there, in its group, or in the fleet."""
        if len(keys) < 3 or keys[0] != "hosts" or keys[1] not in self.hosts:
            return keys
        below = keys[2:]
        places: list[Keys] = [("hosts", keys[1])]
        if (group := self.group(str(keys[1]))) is not None:
            places.append(("groups", group))
        if below[0] in OF_ALL:
            places.append(())
        # the deepest; of two the nearest, which max() takes for being the first
        return (*max(places, key=lambda place: self.source.depth((*place, *below)) - len(place)), *below)


def _mappings(value: Any) -> dict[str, dict[str, Any]]:
    entries = value.items() if isinstance(value, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}

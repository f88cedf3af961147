"""The lines of a fleet's file that declare resources and their properties, for reports."""

from pathlib import Path
from typing import Any

from rackwright.fleet.layers import Layers
from rackwright.fleet.source import read
from rackwright.schema.problem import Keys


class ResourcePlaces:
    """The lines of the declarations in the file *path*; a fleet in Python, or without a file, has no lines."""

    def __init__(self, path: Path) -> None:
        self._layers = Layers(read(path)) if path.suffix == ".yaml" else None
        self._resources: dict[tuple[str, str], tuple[Keys, frozenset[str], int]] = {}

    def line(self, type: str, resource: str, thing: str = "", property: str = "") -> int | None:
        """Return the line that declares the *property* of the *thing*, or the nearest line above it.

        Args:
            type: Type of the resource for pulumi.
            resource: Name of the resource, such as `HOST/TIER`.
            thing: Name of the claim's thing, such as `drive:SERIAL`.
            property: Name of the property of that thing.
        """
        layers = self._layers
        if layers is None:
            return None
        own, names, line = self._resources.get((type, resource)) or self._find(layers, type, resource)
        host = resource.partition("/")[0]
        below = ((*own, property),) if property in names else ()
        for keys in (*_thing_keys(layers, host, thing, property), *below):
            origin = layers.origin(keys)
            if layers.source.depth(origin) == len(origin):
                return layers.source.line(origin)
        return line

    def _find(self, layers: Layers, type: str, resource: str) -> tuple[Keys, frozenset[str], int]:
        """Return the keys of *resource*, the names below them in all layers, and its line; a host has many findings."""
        host, _, name = resource.partition("/")
        kind = type.rpartition(":")[2]
        own = _cluster_keys(layers, host) if kind in ("Cluster", "Node") else _resource_keys(kind, host, name)
        group = layers.group(host) if host in layers.hosts else None
        places = [own] if group is None or own[:1] != ("hosts",) else [own, ("groups", group, *own[2:])]
        names = frozenset(name for place in places for name in _names(layers.source.data, place))
        found = own, names, layers.source.line(layers.origin(own))
        self._resources[type, resource] = found
        return found


def _names(data: Any, keys: Keys) -> tuple[str, ...]:
    """Return the keys of the mapping at *keys* of *data*."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return tuple(data) if isinstance(data, dict) else ()


def _resource_keys(kind: str, host: str, name: str) -> Keys:
    match kind:
        case "Tier":
            return ("hosts", host, "tiers", name)
        case "Network":
            return ("hosts", host, "network")
        case "Peers":
            return ("hosts", host, "nics")
        case "Role":
            return ("hosts", host, "roles", name)
        case "ModelServer":
            return ("servers", name)
        case "TrainingRun" | "TrainingSeat":
            return ("runs", name)
        case _:
            return ("hosts", host)


def _cluster_keys(layers: Layers, host: str) -> Keys:
    """Return the keys of the cluster that *host* is a member of; those of the host if there is none.

    A resource of a cluster with `api` begins with the name of the cluster.
    """
    clusters: Any = layers.source.data.get("clusters")
    for name, cluster in clusters.items() if isinstance(clusters, dict) else ():
        if not isinstance(cluster, dict):
            continue
        further, nodes = cluster.get("further_control_planes") or (), cluster.get("nodes") or ()
        of_api = name == host and "api" in cluster
        if of_api or cluster.get("control_plane") == host or host in further or host in nodes:
            return ("clusters", name)
    return ("hosts", host)


def _thing_keys(layers: Layers, host: str, thing: str, property: str) -> tuple[Keys, ...]:
    """Return the keys of things that the file declares beside their resource."""
    sort, _, name = thing.partition(":")
    match sort:
        case "host":
            return (("hosts", host, "identity", property), ("hosts", host, property))
        case "drive":
            return _item_keys(layers, host, "drives", ("serial",), name)
        case "nic" | "link":
            return _item_keys(layers, host, "nics", ("mac", "pci", "name"), name)
        case "drives":
            return (("hosts", host, "drives"),)
        case "gpus" | "memory":
            return (("hosts", host, "profile"),)
        case _:
            return ()


def _item_keys(layers: Layers, host: str, table: str, names: tuple[str, ...], value: str) -> tuple[Keys, ...]:
    """Return the keys of the items of a list of *host* that have *value* under one of *names*."""
    items: Any = layers.hosts.get(host, {}).get(table)
    return tuple(
        ("hosts", host, table, index)
        for index, item in enumerate(items if isinstance(items, list) else ())
        if isinstance(item, dict) and value in [item.get(name) for name in names]
    )

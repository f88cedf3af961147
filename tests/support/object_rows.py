"""How each claimed value of an object of a cluster can cease to hold, and how it can cease to be known."""

from collections.abc import Iterator
from typing import Any

from tests.support.mutations import Row, another
from tests.support.raw_facts import Raw

Place = tuple[str, Any, Any]
"""The path of a value in claims, the mapping or list that has it, and its key there."""


def row(key: str, name: str) -> Row:
    """Return the row of the property *name* of the object *key*: ``vision/Job/digits-launcher``."""
    return Row(lambda raw, _: _differ(raw, key, name), lambda raw, _: _hide(raw, key))


def _table(raw: Raw, key: str) -> Raw:
    """Return the table of the facts that has the object *key*: that of runs and servers, or that of the cluster."""
    cluster = raw["kubernetes_cluster"]
    found: Raw = cluster["objects"] if key in cluster.get("objects", ()) else cluster["workloads"]
    return found


def _hide(raw: Raw, key: str) -> None:
    _table(raw, key)[key] = {"unknown": "the API does not answer"}


def _differ(raw: Raw, key: str, name: str) -> None:
    item: Raw = _table(raw, key)[key]
    if name in ("undeclared", "fields"):
        item["spec"]["addedByHand"] = "x"
        return
    whole = _at(item, name)
    if isinstance(whole, list) and whole:  # a list that is compared as one value
        whole.append(whole[0])
        return
    [(container, place)] = [(container, place) for path, container, place in _places(item) if path == name]
    if name.endswith(".length"):
        container.append({"name": "by-hand"})
        return
    container[place] = another(container[place])
    if name == "spec.replicas":  # the pods have followed
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        item["status"].update(dict.fromkeys(counts, container[place]))


def _at(item: Any, path: str) -> Any:
    """Return the value at the *path* of keys; None if there is none."""
    for key in path.split("."):
        item = item.get(key) if isinstance(item, dict) else None
    return item


def _places(value: Any, path: str = "", place: tuple[Any, Any] = (None, None)) -> Iterator[Place]:
    """Yield the places of all values, by the paths that the claims have for them."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _places(each, f"{path}.{key}" if path else str(key), (value, key))
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        yield f"{path}.length", value, None
        for number, each in enumerate(value):
            yield from _places(each, f"{path}[{number}]", (value, number))
    else:
        yield path, *place

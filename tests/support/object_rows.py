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


def _hide(raw: Raw, key: str) -> None:
    raw["kubernetes_cluster"]["workloads"][key] = {"unknown": "the API does not answer"}


def _differ(raw: Raw, key: str, name: str) -> None:
    item: Raw = raw["kubernetes_cluster"]["workloads"][key]
    if name == "undeclared":
        item["spec"]["addedByHand"] = "x"
        return
    [(container, place)] = [(container, place) for path, container, place in _places(item) if path == name]
    if name.endswith(".length"):
        container.append({"name": "by-hand"})
        return
    container[place] = another(container[place])
    if name == "spec.replicas":  # the pods have followed
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        item["status"].update(dict.fromkeys(counts, container[place]))


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

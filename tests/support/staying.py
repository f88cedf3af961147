"""Facts that stay different after a removal, each with its reason in tests/acceptance/staying.yaml."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ruamel.yaml import YAML

from tests.support.log import ROOT


def reasons() -> dict[str, dict[str, str]]:
    """Return the reason by the pattern of a fact's path, of facts that may be `added` and of those `changed`."""
    path = ROOT / "tests/acceptance/staying.yaml"
    content: dict[str, dict[str, str]] = YAML(typ="safe").load(path)
    return content


def without_reason(changes: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the changes of `rackwright compare` that may not stay."""
    staying = {sort: [re.compile(pattern) for pattern in patterns] for sort, patterns in reasons().items()}
    for change in changes:
        sort = "added" if change.get("before") is None else "changed"
        if not any(pattern.fullmatch(change["path"]) for pattern in staying[sort]):
            yield change

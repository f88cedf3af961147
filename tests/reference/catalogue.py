"""The page of the hardware catalogue, with the source of each value."""

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rackwright.schema.catalogue import GPUS, UNVERIFIED, CatalogueRow, rows, unverified_values
from tests.reference.markdown import code, page, table

TITLES = {
    "architectures": "Architectures",
    "gpus": "Accelerators",
    "mig": "MIG",
    "profiles": "Profiles",
    "drivers": "Drivers of NVIDIA",
    "cuda": "CUDA",
    "torch": "Builds of PyTorch",
    "systems": "Software in the systems' archives",
    "stacks": "Software of other vendors",
    "peer_memory": "RDMA to GPU memory",
    "stack_releases": "Releases of other vendors",
}


def render() -> str:
    """Return docs/reference/catalogue.md."""
    values = sum(len(row.values) for _, row in rows())
    introduction = f"""\
`check` and `preview` compare a host's profile, its `needs` and the variables of its roles with this catalogue. The
catalogue has {len(GPUS)} accelerators, and {values} values; {len(unverified_values())} of them have no published
source. Such a value informs, and refuses nothing."""
    tables = groupby(rows(), key=lambda item: item[0].partition(".")[0])
    sections = [f"## {TITLES[name]}\n\n{_table(dict(group))}" for name, group in tables]
    return page("Catalogue", "rackwright/schema/catalogue and workloads/catalogue", introduction, *sections)


def _table(entries: dict[str, CatalogueRow]) -> str:
    lines = [line for place, row in entries.items() for line in _lines(place.partition(".")[2], row)]
    return table(("name", "value", "is", "source"), lines)


def _lines(name: str, row: CatalogueRow) -> Iterator[tuple[str, str, str, str]]:
    for value in sorted(row.values):
        source = UNVERIFIED if value in row.sources.get(UNVERIFIED, ()) else row.source(value)
        yield code(name), value, _text(row.model_dump(mode="json")[value]), source


def _text(value: Any) -> str:
    match value:
        case dict():
            return "; ".join(f"{key}: {_text(each)}" for key, each in value.items() if each is not None)
        case list():
            return ", ".join(map(_text, value))
        case str():
            return value
    return json.dumps(value)

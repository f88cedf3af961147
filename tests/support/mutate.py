"""The search for the value in raw facts that one property of a claim is read from."""

from collections.abc import Sequence
from typing import Any

from rackwright.core import diff as comparison
from rackwright.core.contract import Claim, Difference
from rackwright.facts.facts import Facts
from rackwright.stack import DeclaredResource
from tests.support import object_rows
from tests.support.mutations import ROWS, Row, another, setting, values_read


def differences(declared: DeclaredResource, raw: dict[str, Any], claims: Sequence[Claim]) -> tuple[Difference, ...]:
    """Compare *claims* of a resource with the facts *raw*."""
    return comparison.diff(claims, declared.kind.observe(claims, Facts(raw)))


def differing(declared: DeclaredResource, raw: dict[str, Any], claims: Sequence[Claim]) -> list[str]:
    """Return the paths of the properties with another known value than the declared one."""
    return [item.path for item in differences(declared, raw, claims) if not item.is_unknown]


def row_of(declared: DeclaredResource, thing: str, name: str, raw: dict[str, Any], claims: Sequence[Claim]) -> Row:
    """Return the row of a property; without one, the row of the first value in *raw* that changes it alone."""
    sort, key = thing.split(":", 1)
    if sort == "object":
        return object_rows.row(key, name)
    if name in ROWS.get(sort, ()):
        return ROWS[sort][name]
    about = [claim for claim in claims if claim.thing == thing]
    for place, leaf in values_read(lambda: declared.kind.observe(about, Facts(raw))):
        row, before = setting(lambda raw, key, place=place: place, leaf, another), place[leaf]
        row.differ(raw, key)
        found = differing(declared, raw, claims)
        place[leaf] = before
        if found == [f"{thing}.{name}"]:
            return row
    raise AssertionError(f"no value of the facts changes {sort}.{name} alone: add a row to tests/support/mutations.py")
